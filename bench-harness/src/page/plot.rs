//! One plot as SVG: lines with their names beside them, the spread of the passes as a band, axes with units.
//!
//! Colours are classes, so that the page's style decides them, for light and for dark. Each line has a marker of its own as well: nothing
//! is told by colour alone. A plot is drawn twice, wide and narrow, and the style shows one of them: scaled down, its words would be
//! too small to read.

use maud::{Markup, PreEscaped, html};

use super::axes::Axis;
use crate::suite::axis::Scale;

/// One plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What it shows, for those who do not see it.
    pub about: String,
    /// Along.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// From behind to front.
    pub lines: Vec<PlotLine>,
    /// A part of the plot that is something else than the rest.
    pub zone: Option<Zone>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct PlotLine {
    /// Stands at its end.
    pub name: String,
    /// Which of the colours, which come again with other markers.
    pub colour: usize,
    /// How it is drawn.
    pub stroke: Stroke,
    /// In the order of the axis.
    pub points: Vec<PlotPoint>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// What was measured.
    Solid,
    /// The same, another quantile.
    Dotted,
    /// What was not measured: dashes and no markers.
    Predicted,
    /// A line of many points: no markers.
    Plain,
}

/// One point.
#[derive(Clone, Debug)]
pub struct PlotPoint {
    /// Along.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// The spread: from here …
    pub low: f64,
    /// … to there.
    pub high: f64,
    /// Is shown when pointed at.
    pub words: String,
}

/// From `x` to the right end.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Where it begins.
    pub from: f64,
    /// What it is.
    pub words: String,
}

/// Of the names above a plot: where their first row is, and how far it is to the next.
const FIRST_ROW: f64 = 35.0;
const ROW: f64 = 16.0;
/// The width of a letter of a name, about.
const BOLD_LETTER: f64 = 8.3;
const NARROW_BOLD_LETTER: f64 = 7.2;

/// What a plot is made to fit.
#[derive(Clone, Copy, Debug)]
struct Frame {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    class: &'static str,
    /// About the width of a letter.
    letter: f64,
}

const WIDE: Frame = Frame {
    width: 960.0,
    height: 400.0,
    left: 66.0,
    right: 110.0,
    top: 30.0,
    bottom: 50.0,
    class: "plot wide",
    letter: 7.0,
};

const NARROW: Frame = Frame {
    width: 380.0,
    height: 330.0,
    left: 46.0,
    right: 12.0,
    top: 46.0,
    bottom: 46.0,
    class: "plot narrow",
    letter: 6.4,
};

impl Plot {
    /// Both drawings.
    pub fn draw(&self) -> Markup {
        html! {
            (self.draw_in(&WIDE))
            (self.draw_in(&NARROW))
        }
    }

    /// The wide drawing as a file of its own, which brings its style along.
    pub fn picture(&self) -> String {
        /// On a page, the narrow one takes its place there.
        const ALONE: &str = "svg.wide { display: block; background: var(--paper); color: var(--ink); font: 16px system-ui, sans-serif; }";
        let style = html! { style { (style()) (PreEscaped(ALONE)) } }.into_string();
        let drawn = self.draw_in(&WIDE).into_string();
        let (tag, rest) = drawn.split_once('>').unwrap_or((&drawn, ""));
        format!("{tag} xmlns=\"http://www.w3.org/2000/svg\">{style}{rest}\n")
    }

    fn draw_in(&self, frame: &Frame) -> Markup {
        // Each further row of names above pushes the plot down; names beside take what the longest needs.
        let rows = self
            .places_above(frame)
            .last()
            .map_or(0.0, |place| (place.2 - FIRST_ROW) / ROW);
        let longest = self
            .lines
            .iter()
            .map(|line| line.name.chars().count())
            .max()
            .unwrap_or(0);
        let right = if frame.has_room_beside() {
            (longest as f64 * BOLD_LETTER + 28.0).max(frame.right)
        } else {
            frame.right
        };
        let frame = &Frame {
            top: frame.top + rows * ROW,
            height: frame.height + rows * ROW,
            right,
            ..*frame
        };
        let (right, bottom) = (frame.width - frame.right, frame.height - frame.bottom);
        let px = |x: f64| round(frame.left + (right - frame.left) * self.x.place(x).clamp(0.0, 1.0));
        let py = |y: f64| round(bottom - (bottom - frame.top) * self.y.place(y).clamp(0.0, 1.0));
        let labels_beside = frame.has_room_beside();
        html! {
            svg class=(frame.class) viewBox=(format!("0 0 {} {}", frame.width, frame.height)) role="img" aria-label=(self.about) {
                @if let Some(zone) = &self.zone {
                    @let from = px(zone.from);
                    rect class="zone" x=(from) y=(frame.top) width=(round(right - from)) height=(round(bottom - frame.top)) {}
                    text class="zone-words" x=(round(from + 6.0)) y=(frame.top + 15.0) { (zone.words) }
                }
                @for (tick, words) in &self.y.ticks {
                    line class="grid" x1=(frame.left) x2=(right) y1=(py(*tick)) y2=(py(*tick)) {}
                    text class="tick" text-anchor="end" x=(frame.left - 7.0) y=(round(py(*tick) + 4.0)) { (words) }
                }
                line class="axis" x1=(frame.left) x2=(right) y1=(bottom) y2=(bottom) {}
                @for (tick, words) in self.readable_ticks(frame, &px) {
                    @let at = px(tick);
                    line class="axis" x1=(at) x2=(at) y1=(bottom) y2=(bottom + 5.0) {}
                    @let is_at_edge = at + half_width(&words, frame) > frame.width;
                    text class="tick" text-anchor=(if is_at_edge { "end" } else { "middle" }) x=(if is_at_edge { frame.width - 1.0 } else { at }) y=(bottom + 19.0) { (words) }
                }
                @if self.x.has_zero {
                    @let gap = round(frame.left + (right - frame.left) * 0.06);
                    path class="break" d=(format!("M{} {}l4 -8m3 8l4 -8", gap - 5.0, bottom + 4.0)) {}
                }
                text class="label" text-anchor="middle" x=(round((frame.left + right) / 2.0)) y=(frame.height - 8.0) { (self.x.label) }
                text class="label" x=(if labels_beside { 8.0 } else { 4.0 }) y="16" { (self.y.label) }
                @for line in &self.lines { (self.band(line, &px, &py)) }
                @for line in &self.lines { (self.stroke(line, &px, &py)) }
                @if labels_beside { (self.names_beside(frame, &px, &py)) } @else { (self.names_above(frame)) }
            }
        }
    }

    /// Those that do not overlap, the last one always.
    fn readable_ticks(&self, frame: &Frame, px: &impl Fn(f64) -> f64) -> Vec<(f64, String)> {
        let half = |words: &str| half_width(words, frame) + 4.0;
        let mut kept: Vec<(f64, String)> = Vec::new();
        let mut limit = f64::INFINITY;
        for (tick, words) in self.x.ticks.iter().rev() {
            if px(*tick) + half(words) <= limit {
                limit = px(*tick) - half(words);
                kept.push((*tick, words.clone()));
            }
        }
        kept.reverse();
        kept
    }

    fn band(&self, line: &PlotLine, px: &impl Fn(f64) -> f64, py: &impl Fn(f64) -> f64) -> Markup {
        let class = format!("band c{}", line.colour % COLOURS);
        if self.x.scale == Scale::Category || line.points.len() == 1 {
            let shift = self.shift(line);
            return html! {
                @for point in &line.points {
                    @let x = px(point.x) + shift;
                    line class=(format!("whisker c{}", line.colour % COLOURS)) x1=(x) x2=(x) y1=(py(point.low)) y2=(py(point.high)) {}
                }
            };
        }
        let there = line.points.iter().map(|point| (px(point.x), py(point.high)));
        let back = line.points.iter().rev().map(|point| (px(point.x), py(point.low)));
        html! { path class=(class) d=(path(there.chain(back)) + "Z") {} }
    }

    /// Beside each other where values are only names.
    fn shift(&self, line: &PlotLine) -> f64 {
        if self.x.scale != Scale::Category {
            return 0.0;
        }
        let at = self
            .lines
            .iter()
            .position(|other| std::ptr::eq(other, line))
            .unwrap_or(0);
        (at as f64 - (self.lines.len() as f64 - 1.0) / 2.0) * 13.0
    }

    fn stroke(&self, line: &PlotLine, px: &impl Fn(f64) -> f64, py: &impl Fn(f64) -> f64) -> Markup {
        let style = match line.stroke {
            Stroke::Solid | Stroke::Plain => "",
            Stroke::Dotted => " dotted",
            Stroke::Predicted => " predicted",
        };
        let has_line = self.x.scale != Scale::Category;
        let has_markers = matches!(line.stroke, Stroke::Solid | Stroke::Dotted);
        let shift = self.shift(line);
        html! {
            @if has_line {
                path class=(format!("line c{}{style}", line.colour % COLOURS)) d=(path(line.points.iter().map(|point| (px(point.x), py(point.y))))) {}
            }
            @if has_markers {
                @for point in &line.points {
                    (marker(line.colour, line.stroke == Stroke::Dotted, px(point.x) + shift, py(point.y), &point.words))
                }
            }
        }
    }

    /// The lines' names at their ends, moved apart where they would overlap.
    fn names_beside(&self, frame: &Frame, px: &impl Fn(f64) -> f64, py: &impl Fn(f64) -> f64) -> Markup {
        const HEIGHT: f64 = 17.0;
        let mut places: Vec<(f64, f64, &PlotLine)> = self
            .lines
            .iter()
            .filter(|line| !line.name.is_empty())
            .filter_map(|line| {
                line.points
                    .last()
                    .map(|point| (py(point.y), px(point.x) + self.shift(line), line))
            })
            .collect();
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut heights: Vec<f64> = places.iter().map(|place| place.0).collect();
        for index in 1..heights.len() {
            heights[index] = heights[index].max(heights[index - 1] + HEIGHT);
        }
        let mut limit = frame.height - frame.bottom + 4.0;
        for height in heights.iter_mut().rev() {
            *height = height.min(limit);
            limit = *height - HEIGHT;
        }
        let x = frame.width - frame.right + 16.0;
        html! {
            @for ((y, from, line), height) in places.into_iter().zip(heights) {
                path class=(format!("leader c{}", line.colour % COLOURS)) d=(format!("M{} {}L{} {}", round(from + 7.0), y, round(x - 4.0), round(height))) {}
                text class=(format!("name t{}", line.colour % COLOURS)) x=(x) y=(round(height + 4.0)) { (line.name) }
            }
        }
    }

    /// Where names stand that have no room beside the plot.
    fn places_above(&self, frame: &Frame) -> Vec<(&PlotLine, f64, f64)> {
        const BEGIN: f64 = 4.0;
        let mut places = Vec::new();
        if frame.has_room_beside() {
            return places;
        }
        let (mut x, mut y) = (BEGIN, FIRST_ROW);
        for line in self.lines.iter().filter(|line| !line.name.is_empty()) {
            let width = 18.0 + line.name.chars().count() as f64 * NARROW_BOLD_LETTER;
            if x + width > frame.width && x > BEGIN {
                x = BEGIN;
                y += ROW;
            }
            places.push((line, x, y));
            x += width + 8.0;
        }
        places
    }

    /// The lines' names above the plot, each with its marker: beside it there is no room.
    fn names_above(&self, frame: &Frame) -> Markup {
        html! {
            @for (line, x, y) in self.places_above(frame) {
                (marker(line.colour, line.stroke == Stroke::Dotted, x + 6.0, y - 4.0, ""))
                text class=(format!("name t{}", line.colour % COLOURS)) x=(round(x + 15.0)) y=(y) { (line.name) }
            }
        }
    }
}

impl Frame {
    /// Whether there is room for names beside the plot.
    fn has_room_beside(&self) -> bool {
        self.right >= 100.0
    }
}

/// Half of what a tick's words take.
fn half_width(words: &str, frame: &Frame) -> f64 {
    words.chars().count() as f64 * frame.letter / 2.0
}

/// Colours in the style.
const COLOURS: usize = 8;

/// A shape for each colour, and others when the colours come again.
fn marker(colour: usize, is_hollow: bool, x: f64, y: f64, words: &str) -> Markup {
    let shape = colour + colour / COLOURS;
    let class = format!(
        "marker c{}{}",
        colour % COLOURS,
        if is_hollow { " hollow" } else { "" }
    );
    let (x, y) = (round(x), round(y));
    let title = html! { @if !words.is_empty() { title { (words) } } };
    match shape % 4 {
        0 => html! { circle class=(class) cx=(x) cy=(y) r="4.5" { (title) } },
        1 => {
            html! { rect class=(class) x=(round(x - 4.0)) y=(round(y - 4.0)) width="8" height="8" { (title) } }
        }
        2 => html! { path class=(class) d=(format!("M{x} {}l5.2 9h-10.4Z", round(y - 5.5))) { (title) } },
        _ => {
            html! { path class=(class) d=(format!("M{x} {}l5.5 5.5l-5.5 5.5l-5.5 -5.5Z", round(y - 5.5))) { (title) } }
        }
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    use std::fmt::Write;
    let mut path = String::new();
    for (index, (x, y)) in points.enumerate() {
        let _ = write!(path, "{}{x} {y}", if index == 0 { "M" } else { "L" });
    }
    path
}

/// A tenth of a pixel is enough.
fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// The style of a page, for all plots on it.
pub fn style() -> PreEscaped<&'static str> {
    PreEscaped(include_str!("style.css"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::axis::many;

    fn plot() -> Plot {
        let point = |x, y: f64| PlotPoint {
            x,
            y,
            low: y * 0.9,
            high: y * 1.1,
            words: format!("<{x}>"),
        };
        let line = |name: &str, colour, y| PlotLine {
            name: name.into(),
            colour,
            stroke: Stroke::Solid,
            points: vec![point(1.0, y), point(2.0, y * 1.5)],
        };
        Plot {
            about: "a plot".into(),
            x: Axis::along("threads", Scale::Log, &[(1.0, "1".into()), (2.0, "2".into())]),
            y: Axis::of_values("messages per second", 1.0, 20e6, false, many),
            lines: vec![line("epoq", 0, 10e6), line("locked", 1, 9.9e6)],
            zone: Some(Zone {
                from: 1.5,
                words: "more threads than cores".into(),
            }),
        }
    }

    #[test]
    fn what_is_drawn_stays_in_its_frame() {
        let svg = plot().draw_in(&WIDE).into_string();
        for number in svg.split(" y=\"").skip(1) {
            let y: f64 = number.split('"').next().unwrap().parse().unwrap();
            assert!((0.0..=WIDE.height).contains(&y), "{y} in {svg}");
        }
        assert!(
            svg.contains("&lt;1&gt;") && !svg.contains("NaN") && !svg.contains("inf"),
            "{svg}"
        );
    }

    #[test]
    fn a_picture_stands_alone() {
        let picture = plot().picture();
        assert!(picture.starts_with("<svg class=\"plot wide\""), "{picture}");
        assert!(picture.contains("xmlns=") && picture.contains("--c0:") && picture.ends_with("</svg>\n"));
    }

    #[test]
    fn names_do_not_overlap() {
        let svg = plot().draw_in(&WIDE).into_string();
        let heights: Vec<f64> = svg
            .split("class=\"name")
            .skip(1)
            .map(|rest| {
                rest.split(" y=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        assert_eq!(heights.len(), 2);
        assert!((heights[0] - heights[1]).abs() >= 16.9, "{heights:?}");
    }
}
