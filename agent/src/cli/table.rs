//! Tables for people: columns as wide as their widest cell, two spaces between, nothing at the end of a line.
//!
//! Cells are made safe here, so that no verb can forget it; their width is what a terminal takes for them.

use std::io;

use unicode_width::UnicodeWidthStr;

use super::screen::{Screen, Style, safe};

/// On which side a column is filled up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// A table in the making.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with its headings.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; its cells are recorded text as it came.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(|cell| safe(&cell).into_owned()).collect());
    }

    /// Prints headings and rows; columns without any content are left out.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn print(&self, screen: &mut Screen) -> io::Result<()> {
        let width = |at: usize| self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.width()).max();
        let shown: Vec<(usize, &str, Align, usize)> = self
            .columns
            .iter()
            .enumerate()
            .filter_map(|(at, (heading, align))| {
                let width = width(at).filter(|width| *width > 0)?;
                Some((at, *heading, *align, width.max(heading.width())))
            })
            .collect();
        let mut heading = String::new();
        for (_, text, align, width) in &shown {
            push(&mut heading, text, *align, *width);
        }
        let heading = screen.styled(heading.trim_end(), Style::Heading);
        screen.line(&heading)?;
        for row in &self.rows {
            let mut line = String::new();
            for (at, _, align, width) in &shown {
                push(&mut line, row.get(*at).map_or("", String::as_str), *align, *width);
            }
            screen.line(&line)?;
        }
        Ok(())
    }
}

fn push(line: &mut String, cell: &str, align: Align, width: usize) {
    let fill = " ".repeat(width.saturating_sub(cell.width()));
    if !line.is_empty() {
        line.push_str("  ");
    }
    match align {
        Align::Left => line.extend([cell, &fill]),
        Align::Right => line.extend([&fill, cell]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::ViewArgs;
    use super::*;

    #[test]
    fn columns_align_and_empty_ones_are_left_out() {
        let mut table = Table::new(&[("NAME", Align::Left), ("NOTHING", Align::Left), ("N", Align::Right)]);
        table.row(["日本".into(), String::new(), "1".into()]);
        table.row(["a\x1b".into(), String::new(), "100".into()]);
        let mut out = Vec::new();
        table.print(&mut Screen::new(&mut out, &ViewArgs::default())).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME     N\n日本     1\na\\x1b  100\n");
    }
}
