//! rootvirt: the service and its command line.
//!
//! This crate only puts the parts together: `serve` wires catalog, machines, object manager and
//! listeners; the other commands are clients over CIM-XML. What a machine or a snapshot is, is
//! decided below (`machines`), and how they look to clients in `msvm`.
//!
//! Start reading at [`cli`] (what can be typed), then `serve` or `commands`.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod failure;
mod output;
mod serve;
mod service;

use clap::Parser;
use cli::{Cli, Command};
use failure::Failure;
use service::Service;
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap exits with 2 on wrong usage, as the contract wants.
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let runtime = |workers: bool| {
        let mut builder = if workers {
            tokio::runtime::Builder::new_multi_thread()
        } else {
            tokio::runtime::Builder::new_current_thread()
        };
        builder
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("The runtime cannot be started: {error}")))
    };
    match &cli.command {
        Command::Serve(options) => runtime(true)?.block_on(serve::run(&cli.global, options)),
        Command::Account(command) => commands::account::run(&cli.global, command),
        command => runtime(false)?.block_on(client(cli, command)),
    }
}

async fn client(cli: &Cli, command: &Command) -> Result<(), Failure> {
    let format = cli.global.format;
    let service = Service::connect(&cli.global).await?;
    match command {
        Command::Vm(command) => commands::vm::run(&service, command, format).await,
        Command::Snapshot(command) => commands::snapshot::run(&service, command, format).await,
        Command::Job(command) => commands::job::run(&service, command, format).await,
        Command::Query { wql } => commands::generic::query(&service, wql, format).await,
        Command::Get { path } => commands::generic::get(&service, path, format).await,
        Command::Call {
            path,
            method,
            parameters,
        } => commands::generic::call(&service, path, method, parameters, format).await,
        Command::Class { name, mof } => {
            let format = if *mof { cli::Format::Mof } else { format };
            commands::generic::class(&service, name, format).await
        }
        Command::Serve(_) | Command::Account(_) => Ok(()),
    }
}
