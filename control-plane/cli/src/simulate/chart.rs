//! The results as a picture: p99 over time, and over all, on logarithmic scales. Plain SVG whose colours follow the reader's
//! light or dark theme.

use super::Simulated;
use super::text::time;
use kilocard_simulator::arm::Arm;
use kilocard_simulator::scenario::FaultKind;
use kilocard_simulator::summary::{Result as ArmResult, Spread};
use std::fmt::Write;

const WIDTH: f64 = 880.0;
const LEFT: f64 = 168.0;
const RIGHT: f64 = 96.0;
const TOP: f64 = 66.0;
const PLOT_HEIGHT: f64 = 300.0;
const GAP: f64 = 92.0;
const BAR: f64 = 26.0;
const BOTTOM: f64 = 44.0;

/// The colours of text, lines and paper, in light and in dark.
const STYLE: &str = "<style>\n\
    svg { --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --shade: #fff1e5; }\n\
    @media (prefers-color-scheme: dark) { svg { --paper: #0d1117; --ink: #e6edf3; --soft: #9198a1; --line: #30363d; \
    --shade: #2b1d12; } }\n\
    text { font: 12px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: var(--ink); }\n\
    .soft { fill: var(--soft); } .title { font-size: 15px; font-weight: 600; }\n\
    .grid { stroke: var(--line); stroke-width: 1; } .paper { fill: var(--paper); } .shade { fill: var(--shade); }\n\
    .spread { stroke: var(--ink); stroke-width: 1.5; }\n\
    </style>\n";

/// Readable on white and on black.
fn colour(arm: Arm) -> &'static str {
    match arm {
        Arm::Kilocard => "#1a9e5c",
        Arm::LeastRequestStatic => "#2f81f7",
        Arm::RoundRobinWeighed => "#8a63d2",
        Arm::StaticWeights => "#db6d28",
        Arm::WeightedTwoChoices => "#1b9aaa",
        Arm::TwoChoices => "#b08800",
        Arm::StaleArgmin => "#cf4f9b",
        Arm::RoundRobin => "#e5534b",
    }
}

/// A logarithmic scale from whole decades to pixels.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Over all these values, which are seconds; from 0.1 ms if there is none.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| *value > 0.0) {
            (low, high) = (low.min(value), high.max(value));
        }
        let low = if low.is_finite() { low.log10().floor() } else { -4.0 };
        let high = if high.is_finite() { high.log10().ceil() } else { low };
        let high = high.max(low + 1.0);
        Self { low, high, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.max(1e-12).log10() - self.low) / (self.high - self.low);
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// The decades.
    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        (0..=(self.high - self.low) as i32).map(|step| 10f64.powf(self.low + f64::from(step)))
    }
}

/// A tick's label, without the decimals that a measured time has.
fn decade(seconds: f64) -> String {
    match seconds {
        s if s < 0.9e-3 => format!("{:.1} ms", s * 1e3),
        s if s < 0.9 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.0} s"),
    }
}

pub(super) fn draw(simulated: &Simulated<'_>) -> String {
    let results = simulated.results;
    let bars_top = TOP + PLOT_HEIGHT + GAP;
    let height = bars_top + BAR * results.len() as f64 + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"Simulated 99th percentile of latency by balancer\">\n{STYLE}\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    );
    title(&mut svg, simulated);
    over_time(&mut svg, simulated);
    bars(&mut svg, results, bars_top);
    svg.push_str("</svg>\n");
    svg
}

fn title(svg: &mut String, simulated: &Simulated<'_>) {
    let (args, scenario) = (simulated.args, simulated.scenario);
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"16\" y=\"26\">Latency p99 by balancer, simulated: {} GPUs, load {}, {} gateways</text>",
        scenario.cards.len(),
        args.load,
        args.gateways
    );
    let _ = writeln!(
        svg,
        "<text class=\"soft\" x=\"16\" y=\"46\">{} · {} runs · requests of {} ms on an A100 · p99 of the requests that arrived \
         in each second, log scale</text>",
        escape(&args.gpus),
        args.runs,
        args.work.as_millis()
    );
}

fn over_time(svg: &mut String, simulated: &Simulated<'_>) {
    let seconds = simulated.args.seconds.max(1) as f64;
    let lines: Vec<(Arm, Vec<Option<f64>>)> = simulated
        .results
        .iter()
        .map(|result| (result.arm, result.p99_by_second()))
        .collect();
    let all = lines.iter().flat_map(|(_, line)| line.iter().flatten().copied());
    let y = Scale::over(all, TOP + PLOT_HEIGHT, TOP);
    let x = |second: f64| LEFT + second / seconds * (WIDTH - LEFT - RIGHT);
    shade(svg, simulated, &x);
    for tick in y.ticks() {
        let at = y.place(tick);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"soft\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            decade(tick)
        );
    }
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0, 600.0];
    let step = step.into_iter().find(|step| seconds / step <= 12.0).unwrap_or(1200.0);
    for index in 0..=(seconds / step) as u32 {
        let second = f64::from(index) * step;
        let _ = writeln!(
            svg,
            "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second:.0}</text>",
            x(second),
            TOP + PLOT_HEIGHT + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">seconds of arrival</text>\
         <text class=\"soft\" x=\"16\" y=\"{:.1}\">p99</text>",
        x(seconds / 2.0),
        TOP + PLOT_HEIGHT + 38.0,
        TOP + 8.0
    );
    // Kilocard is drawn last, over all others.
    for (arm, line) in lines.iter().rev() {
        polyline(svg, *arm, line, &x, &y);
    }
}

/// The times at which a card was throttled.
fn shade(svg: &mut String, simulated: &Simulated<'_>, x: &dyn Fn(f64) -> f64) {
    let mut spans: Vec<(f64, f64)> = simulated
        .scenario
        .faults
        .iter()
        .filter_map(|fault| match fault.kind {
            FaultKind::Throttle { lasts, .. } => Some((fault.at.as_secs_f64(), (fault.at + lasts).as_secs_f64())),
            FaultKind::Fail | FaultKind::Join => None,
        })
        .collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    spans.dedup();
    for (from, to) in spans {
        let to = to.min(simulated.args.seconds as f64);
        let _ = writeln!(
            svg,
            "<rect class=\"shade\" x=\"{:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{PLOT_HEIGHT}\"/>\
             <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\">throttled</text>",
            x(from),
            x(to) - x(from),
            x(from) + 6.0,
            TOP + 14.0
        );
    }
}

/// A line with gaps where there was nothing.
fn polyline(svg: &mut String, arm: Arm, line: &[Option<f64>], x: &dyn Fn(f64) -> f64, y: &Scale) {
    let mut path = String::new();
    let mut is_down = false;
    for (second, value) in line.iter().enumerate() {
        if let Some(value) = value {
            let command = if is_down { 'L' } else { 'M' };
            let _ = write!(path, "{command}{:.1} {:.1}", x(second as f64 + 0.5), y.place(*value));
        }
        is_down = value.is_some();
    }
    let width = if arm == Arm::Kilocard { 3.0 } else { 1.5 };
    let _ = writeln!(
        svg,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"><title>{}</title></path>",
        colour(arm),
        arm.name()
    );
}

fn bars(svg: &mut String, results: &[ArmResult], top: f64) {
    let spread = |result: &ArmResult| result.spread(|run| Some(run.p99_s));
    let all = results.iter().filter_map(spread);
    let scale = Scale::over(all.flat_map(|spread| [spread.min, spread.max]), LEFT, WIDTH - RIGHT);
    let _ = writeln!(
        svg,
        "<text x=\"16\" y=\"{:.1}\">p99 over all, median of the runs; the line shows the least and the most</text>",
        top - 14.0
    );
    for tick in scale.ticks() {
        let at = scale.place(tick);
        let bottom = top + BAR * results.len() as f64;
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"soft\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            decade(tick)
        );
    }
    for (index, result) in results.iter().enumerate() {
        if let Some(found) = spread(result) {
            bar(svg, result.arm, found, &scale, top + BAR * index as f64);
        }
    }
}

fn bar(svg: &mut String, arm: Arm, found: Spread, scale: &Scale, top: f64) {
    let (end, middle) = (scale.place(found.median), top + BAR / 2.0);
    let weight = if arm == Arm::Kilocard {
        " font-weight=\"600\""
    } else {
        ""
    };
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\"{weight}>{}</text>\
         <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
         <line class=\"spread\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        LEFT - 8.0,
        middle + 4.0,
        arm.name(),
        top + 5.0,
        (end - LEFT).max(1.0),
        BAR - 10.0,
        colour(arm),
        scale.place(found.min),
        scale.place(found.max),
        scale.place(found.max).max(end) + 8.0,
        middle + 4.0,
        time(found.median)
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_covers_whole_decades_and_keeps_all_within() {
        let scale = Scale::over([0.004, 0.3].into_iter(), 100.0, 400.0);
        let ticks: Vec<String> = scale.ticks().map(decade).collect();
        assert_eq!(ticks, ["1 ms", "10 ms", "100 ms", "1 s"]);
        assert!((scale.place(0.01) - 200.0).abs() < 1e-9);
        assert_eq!((scale.place(1e-9), scale.place(1e9)), (100.0, 400.0));
    }
}
