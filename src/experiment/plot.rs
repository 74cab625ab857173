//! Draws reports as SVG: a row for each target, a column for each number of users, and in each
//! panel the share of answered users over time.

use anyhow::anyhow;
use plotters::{
    coord::Shift,
    prelude::{
        AreaSeries, ChartBuilder, DrawingArea, IntoDrawingArea as _, PathElement, RGBColor,
        SVGBackend, Text, WHITE,
    },
    style::{BLACK, Color as _, IntoTextStyle as _},
};

use super::{load::VisitOutcome, report::Report};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// The width of a panel, in pixels, in which its texts fit.
const PANEL_WIDTH: u32 = 300;

/// The height of a panel and its title, in pixels.
const PANEL_HEIGHT: u32 = 130;

/// The height of the heading, and of the axis below the panels, in pixels.
const HEADING: u32 = 40;

/// The most steps of a curve: one for each percent of the users.
const STEPS: usize = 100;

// The colours of Okabe and Ito, which colour-blind readers can tell apart.
const ANSWERED: RGBColor = RGBColor(0, 114, 178);
const LIMIT: RGBColor = RGBColor(213, 94, 0);
const GREY: RGBColor = RGBColor(110, 110, 110);

const FONT: (&str, i32) = ("sans-serif", 14);

/// Returns the plot as SVG text. Reports with the same title share a row; rows are in the order of
/// their first reports.
///
/// # Errors
/// If the drawing library fails.
pub(super) fn svg(reports: &[Report]) -> anyhow::Result<String> {
    let mut titles: Vec<&str> = Vec::new();
    let mut counts: Vec<usize> = Vec::new();
    for report in reports {
        if !titles.contains(&report.target.as_str()) {
            titles.push(&report.target);
        }
        if !counts.contains(&report.users) {
            counts.push(report.users);
        }
    }
    counts.sort_unstable();
    let size = |count: usize, each: u32| u32::try_from(count).unwrap_or(1).saturating_mul(each);
    // The heading needs the width of two panels.
    let width = size(counts.len().max(2), PANEL_WIDTH);
    let height = size(titles.len(), PANEL_HEIGHT) + 2 * HEADING;
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
    let drawn = area.fill(&WHITE).map_err(Into::into);
    let drawn = drawn.and_then(|()| draw(&area, reports, &titles, &counts));
    drawn.and_then(|()| Ok(area.present()?)).map_err(|error| anyhow!("cannot draw: {error}"))?;
    drop(area);
    Ok(text)
}

fn draw(area: &Area<'_>, reports: &[Report], titles: &[&str], counts: &[usize]) -> Drawn {
    let (heading, rest) = area.split_vertically(HEADING);
    let limit = reports.iter().map(|report| report.timeout_s).fold(0.0, f64::max);
    let heading_text =
        format!("users answered by a time, in percent; a user gives up after {limit} s");
    heading.draw(&Text::new(heading_text, (12, 12), ("sans-serif", 18)))?;
    let (_, height) = rest.dim_in_pixel();
    let (panels, axis) = rest.split_vertically(height.saturating_sub(HEADING));
    axis.draw(&Text::new("seconds since all pressed enter", (12, 12), FONT))?;
    let right = reports.iter().map(|report| report.took_s).fold(limit, f64::max);
    for (row, title) in panels.split_evenly((titles.len(), 1)).iter().zip(titles) {
        row.draw(&Text::new((*title).to_owned(), (12, 4), ("sans-serif", 15)))?;
        let (_, row) = row.split_vertically(20);
        for (panel, users) in row.split_evenly((1, counts.len())).iter().zip(counts) {
            let is_here = |report: &&Report| report.target == *title && report.users == *users;
            if let Some(report) = reports.iter().find(is_here) {
                draw_panel(panel, report, right)?;
            }
        }
    }
    Ok(())
}

fn draw_panel(panel: &Area<'_>, report: &Report, right: f64) -> Drawn {
    let mut chart = ChartBuilder::on(panel)
        .margin_right(16)
        .x_label_area_size(20)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..right, 0.0..100.0)?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_labels(7)
        .y_labels(3)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .label_style(FONT)
        .draw()?;
    let curve = AreaSeries::new(curve(report), 0.0, ANSWERED.mix(0.25)).border_style(ANSWERED);
    chart.draw_series(curve)?;
    let limit = vec![(report.timeout_s, 0.0), (report.timeout_s, 100.0)];
    chart.draw_series([PathElement::new(limit, LIMIT)])?;
    let style = FONT.into_text_style(panel).color(&BLACK);
    chart.draw_series([Text::new(summary(report), (right * 0.02, 96.0), style)])?;
    chart.plotting_area().draw(&PathElement::new(vec![(0.0, 0.0), (right, 0.0)], GREY))?;
    Ok(())
}

/// Returns the figures of a panel as text.
fn summary(report: &Report) -> String {
    let Report { users, completed, .. } = report;
    let mean = report.wait_s.as_ref().map(|waits| format!(", mean {:.2} s", waits.mean));
    format!("{completed} of {users}{}", mean.unwrap_or_default())
}

/// Returns the percentage of answered users over time: a step at the time of every n-th answer.
fn curve(report: &Report) -> Vec<(f64, f64)> {
    let answers = report.visits.iter().filter(|visit| visit.outcome == VisitOutcome::Completed);
    let answers: Vec<f64> = answers.map(|visit| visit.wait_s).collect();
    #[expect(clippy::cast_precision_loss, reason = "at most 50,000 users")]
    let percent = |answered: usize| answered as f64 * 100.0 / report.users.max(1) as f64;
    let every = answers.len().div_ceil(STEPS).max(1);
    let mut points = vec![(0.0, 0.0)];
    let mut before = 0;
    for (index, wait) in answers.iter().enumerate() {
        if (index + 1) % every == 0 || index + 1 == answers.len() {
            points.push((*wait, percent(before)));
            before = index + 1;
            points.push((*wait, percent(before)));
        }
    }
    points.push((report.timeout_s, percent(before)));
    points
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::experiment::load::Visit;

    fn report(title: &str, users: u64) -> Report {
        let visit = |n| Visit {
            wait: Duration::from_millis(5000 + n),
            outcome: match n % 10 {
                0 => VisitOutcome::TimedOut,
                1 => VisitOutcome::Failed("HTTP 500".to_owned()),
                _ => VisitOutcome::Completed,
            },
        };
        let visits = (0..users).map(visit).collect();
        Report::of(title.to_owned(), String::new(), Duration::from_secs(30), visits)
    }

    #[test]
    fn a_plot_has_a_row_per_target() {
        let reports =
            [report("one", 10), report("one", 100), report("another", 10), report("one", 20)];
        let svg = svg(&reports).unwrap();
        for text in ["one", "another", "8 of 10, mean", "80 of 100, mean", "gives up after 30 s"] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(svg.matches("8 of 10, mean").count(), 2);
    }

    #[test]
    fn a_curve_ends_at_the_answered_share() {
        let curve = curve(&report("one", 1000));
        assert!(curve.len() <= 2 * STEPS + 3, "{}", curve.len());
        assert!(curve.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        assert_eq!(curve.last(), Some(&(30.0, 80.0)));
    }

    #[test]
    fn a_plot_may_have_no_users() {
        assert!(svg(&[report("none", 0)]).unwrap().contains("0 of 0"));
    }
}
