//! A chart as SVG: bars on a logarithmic scale, the middle value as the bar, the worst as a line.

use super::digits;
use super::measures::{DURABLE, Measure, RESTORE, SILENCE};
use crate::bench::contender;
use crate::bench::results::{Case, Row};
use crate::bench::statistics::Series;

const PANELS: &[(&str, &Measure)] = &[
    ("Longest silence of the guest in a snapshot, ms", &SILENCE),
    ("Snapshot: from the command until durable, ms", &DURABLE),
    (
        "Restore: from the command to the first heartbeat, ms",
        &RESTORE,
    ),
];
const WIDTH: f64 = 860.0;
/// Where bars begin, and where the longest ends.
const LEFT: f64 = 170.0;
const RIGHT: f64 = 690.0;
const LINE: f64 = 24.0;
const BAR: f64 = 15.0;
const HEAD: f64 = 44.0;
const OURS: &str = "#1a6fb5";
const THEIRS: &str = "#9a9a9a";
const INK: &str = "#444444";
const GRID: &str = "#d0d0d0";

/// The chart of one case.
pub fn of(case: &Case) -> String {
    let panels: Vec<(&str, Vec<(&Row, Series)>)> = PANELS
        .iter()
        .map(|(title, measure)| (*title, bars(case, measure)))
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    let mut body = String::new();
    let mut top = 34.0;
    for (title, bars) in &panels {
        body += &panel(title, bars, top);
        top += HEAD + LINE * bars.len() as f64 + 24.0;
    }
    let caption = format!(
        "Guest of {} MiB, half full, dirtying: {}. Bar: p50; line: worst. Logarithmic scale.",
        case.ram_mib, case.load.dirtying
    );
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{top}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"24\" fill=\"{INK}\">{caption}</text>\n{body}</svg>\n"
    )
}

fn bars<'a>(case: &'a Case, measure: &Measure) -> Vec<(&'a Row, Series)> {
    let rows = case.rows.iter();
    rows.filter_map(|row| Some((row, measure.series(row)?)))
        .collect()
}

fn panel(title: &str, bars: &[(&Row, Series)], top: f64) -> String {
    let values = || {
        bars.iter()
            .flat_map(|(_, series)| [series.p50, series.worst])
    };
    let lowest = values()
        .fold(f64::INFINITY, f64::min)
        .max(0.1)
        .log10()
        .floor();
    let highest = values()
        .fold(0.0, f64::max)
        .max(1.0)
        .log10()
        .ceil()
        .max(lowest + 1.0);
    let place = |value: f64| {
        let share = (value.max(0.1).log10() - lowest) / (highest - lowest);
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    };
    let first = top + HEAD;
    let bottom = first + LINE * bars.len() as f64;
    let mut text = format!(
        "<text x=\"12\" y=\"{:.0}\" font-weight=\"bold\" fill=\"{INK}\">{title}</text>\n",
        top + 20.0
    );
    let mut power = lowest;
    while power <= highest {
        let x = place(10_f64.powf(power));
        text += &format!(
            "<line x1=\"{x:.1}\" y1=\"{:.0}\" x2=\"{x:.1}\" y2=\"{bottom:.0}\" stroke=\"{GRID}\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\" font-size=\"11\" fill=\"{INK}\">{}</text>\n",
            first - 4.0,
            first - 8.0,
            10_f64.powf(power)
        );
        power += 1.0;
    }
    for (number, (row, series)) in bars.iter().enumerate() {
        text += &bar(row, series, first + LINE * number as f64, &place);
    }
    text
}

fn bar(row: &Row, series: &Series, top: f64, place: &dyn Fn(f64) -> f64) -> String {
    let colour = if contender::is_ours(&row.contender) {
        OURS
    } else {
        THEIRS
    };
    let (end, worst, middle) = (place(series.p50), place(series.worst), top + BAR / 2.0);
    format!(
        "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{INK}\">{}</text>\n\
         <rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\n\
         <line x1=\"{end:.1}\" y1=\"{middle:.1}\" x2=\"{worst:.1}\" y2=\"{middle:.1}\" stroke=\"{INK}\" stroke-width=\"2\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{INK}\">{} ({})</text>\n",
        LEFT - 8.0,
        top + 12.0,
        row.contender,
        (end - LEFT).max(1.0),
        worst.max(end) + 8.0,
        top + 12.0,
        digits(series.p50),
        digits(series.worst),
    )
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn a_longer_time_is_a_longer_bar() {
        let results = samples::usual();
        let text = super::of(results.cases.first().expect("a case"));
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
        let width = |contender: &str| -> f64 {
            let rest = text
                .split_once(&format!(">{contender}</text>"))
                .expect("there")
                .1;
            let width = rest.split_once("width=\"").expect("a bar").1;
            width
                .split_once('"')
                .expect("a number")
                .0
                .parse()
                .expect("a number")
        };
        assert!(width("rootvirt") < width("virsh-external-live"));
        assert!(width("virsh-external-live") < width("virsh-internal"));
    }
}
