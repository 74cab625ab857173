//! Draws each user's wait as SVG.

use anyhow::anyhow;
use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, Circle, DrawingArea, IntoDrawingArea as _, IntoFont as _, LineSeries,
        PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
    },
    style::Color as _,
};

use super::{
    load::Outcome,
    report::{Entry, Report},
};

/// Size of the picture, in pixels.
const SIZE: (u32, u32) = (900, 480);

/// Most users that are drawn; of more, every n-th in the order of waits.
const MAX_POINTS: usize = 1000;

// Okabe and Ito's colours, which the colour-blind can tell apart.
const ANSWERED: RGBColor = RGBColor(0, 114, 178);
const TIMED_OUT: RGBColor = RGBColor(213, 94, 0);
const FAILED: RGBColor = RGBColor(110, 110, 110);

/// The picture as SVG text.
///
/// # Errors
/// When the drawing library refuses.
pub(super) fn svg(report: &Report) -> anyhow::Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    draw(&area, report).map_err(|error| anyhow!("cannot draw the plot: {error}"))?;
    drop(area);
    Ok(text)
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    report: &Report,
) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    let step = report.users.div_ceil(MAX_POINTS).max(1);
    #[expect(clippy::cast_precision_loss, reason = "at most 50,000 users")]
    let right = report.users as f64 + 1.0;
    let top = report.took_s.max(report.timeout_s) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption(title(report), ("sans-serif", 18).into_font())
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    let drawn = if step > 1 { format!(" (every {step}th is drawn)") } else { String::new() };
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc(format!("users, in the order of their wait{drawn}"))
        .y_desc("wait, seconds")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    let limit = [(0.0, report.timeout_s), (right, report.timeout_s)];
    chart
        .draw_series(LineSeries::new(limit, FAILED.mix(0.6)))?
        .label(format!("users give up at {} s", report.timeout_s))
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], FAILED.mix(0.6)));
    let radius = if report.visits.len() <= 100 { 4 } else { 2 };
    for (name, color) in [("answered", ANSWERED), ("timed out", TIMED_OUT), ("error", FAILED)] {
        let points = points(&report.visits, step, name);
        if points.is_empty() {
            continue;
        }
        chart
            .draw_series(
                points.into_iter().map(|point| Circle::new(point, radius, color.filled())),
            )?
            .label(name)
            .legend(move |(x, y)| Circle::new((x + 8, y), 3, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::Coordinate(12, 36))
        .background_style(WHITE.mix(0.85))
        .border_style(FAILED)
        .label_font(("sans-serif", 14))
        .draw()?;
    area.present()?;
    Ok(())
}

fn title(report: &Report) -> String {
    let Report { target, users, completed, .. } = report;
    let waits = report.wait_s.as_ref().map_or(String::new(), |waits| {
        format!(", mean {:.2} s, p99 {:.2} s", waits.mean, waits.p99)
    });
    format!("{target}: {completed} of {users} answered{waits}")
}

fn series(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "answered",
        Outcome::TimedOut => "timed out",
        Outcome::Failed(_) => "error",
    }
}

/// Place and wait of every `step`-th user, of those that belong to the series `name`.
fn points(visits: &[Entry], step: usize, name: &str) -> Vec<(f64, f64)> {
    let every = visits.iter().enumerate().step_by(step);
    #[expect(clippy::cast_precision_loss, reason = "at most 50,000 users")]
    let place = |(index, visit): (usize, &Entry)| ((index + 1) as f64, visit.wait_s);
    every.filter(|(_, visit)| series(&visit.outcome) == name).map(place).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::experiment::load::Visit;

    fn report(users: u64) -> Report {
        let visit = |n| Visit {
            wait: Duration::from_millis(5000 + n),
            outcome: match n % 10 {
                0 => Outcome::TimedOut,
                1 => Outcome::Failed("HTTP 500".to_owned()),
                _ => Outcome::Completed,
            },
        };
        let visits = (0..users).map(visit).collect();
        Report::of("a server".to_owned(), String::new(), Duration::from_secs(30), visits)
    }

    #[test]
    fn a_plot_shows_every_user_and_says_what_it_shows() {
        let svg = svg(&report(50)).unwrap();
        assert!(svg.matches("<circle").count() >= 50);
        for text in ["a server: 40 of 50 answered", "wait, seconds", "give up at 30 s", "timed out"]
        {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn a_plot_of_many_users_stays_small_and_says_so() {
        let svg = svg(&report(10_000)).unwrap();
        assert!((1000..1100).contains(&svg.matches("<circle").count()));
        assert!(svg.contains("every 10th is drawn"));
    }

    #[test]
    fn a_plot_of_nobody_is_no_error() {
        assert!(svg(&report(0)).unwrap().contains("0 of 0 answered"));
    }
}
