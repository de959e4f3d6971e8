//! The demo guest's only program: runs as process 1 of the image that `cargo xtask guest` makes,
//! counts in RAM and on disks, and serves the serial port. The library's first comment says what it
//! counts and which commands it takes. It is of no use outside such a guest.
//!
//! Start at [`run`]; `counter` is the counting loop, `console` the commands.

mod block_devices;
mod console;
mod counter;
mod heartbeat;
mod input;
mod load;
mod system;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use console::Console;
use counter::Counter;

fn main() {
    if std::process::id() != 1 {
        eprintln!("demo-guest-init runs as process 1 of the demo guest: cargo xtask guest FILE");
        std::process::exit(2);
    }
    let Err(error) = run();
    // Process 1 must not end: the kernel would panic and hide the reason.
    println!("rootvirt-guest failed: {error}");
    loop {
        std::thread::park();
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn run() -> Result<Infallible, Failure> {
    system::mount_file_systems()?;
    system::load_modules()?;
    system::keep_ctrl_alt_del()?;
    let console = Arc::new(Console::open()?);
    for problem in system::take_problems() {
        console.say(&format!("rootvirt-guest warning: {problem}"));
    }
    let counter = Arc::new(Counter::new(system::boot_stamp()?)?);
    console.say(&counter.ready()?.to_string());

    spawn("counter", {
        let counter = Arc::clone(&counter);
        move || counter.count()
    })?;
    input::watch(&counter, &console)?;
    spawn("console", {
        let (counter, console) = (Arc::clone(&counter), Arc::clone(&console));
        move || console::serve(&console, &counter)
    })?;
    tick_for_ever(&counter, &console)
}

fn tick_for_ever(counter: &Counter, console: &Console) -> ! {
    let began = Instant::now();
    let second = Duration::from_secs(1);
    let mut next = began + second;
    loop {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        console.say(&counter.tick(began.elapsed().as_secs()).to_string());
        if let Err(error) = counter.adopt_new_disks() {
            console.say(&format!(
                "rootvirt-guest warning: cannot look for new disks: {error}"
            ));
        }
        next = (next + second).max(Instant::now());
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(drop)
}
