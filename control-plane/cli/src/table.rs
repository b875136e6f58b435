//! Plain text tables: left-aligned columns, two spaces apart, no colours, so that they paste and grep well.

use std::fmt;

/// Rows under a heading.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    /// An empty table with these column headings.
    pub fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()],
            indent: 0,
        }
    }

    /// Moves the table right by so many spaces.
    pub fn indented(mut self, indent: usize) -> Self {
        self.indent = indent;
        self
    }

    /// Adds a row. Cells may come from anybody who can write to etcd: see [`printable`].
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows
            .push(cells.into_iter().map(|cell| printable(&cell.into())).collect());
    }
}

/// Most characters of a cell that are shown: one long value must not push all others off the screen.
const SHOWN: usize = 500;

/// A text that stays within its cell: control characters could forge rows or colours, so they are escaped.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(SHOWN));
    for (index, character) in text.chars().enumerate() {
        if index == SHOWN {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            writeln!(f, "{:indent$}{}", "", cells.join("  ").trim_end(), indent = self.indent)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_space() {
        let mut table = Table::new(&["KIND", "NAME"]).indented(2);
        table.row(["RoutingPolicy", "a"]);
        table.row(["X", "longer"]);
        assert_eq!(
            table.to_string(),
            "  KIND           NAME\n  RoutingPolicy  a\n  X              longer\n"
        );
    }

    #[test]
    fn a_cell_cannot_forge_a_row_and_a_huge_one_is_cut() {
        let mut table = Table::new(&["A", "B"]);
        table.row(["x\u{1b}[31m\ny".to_owned(), "z".repeat(1_000_000)]);
        let text = table.to_string();
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.contains("x\\u{1b}[31m\\ny") && text.ends_with("z…\n"),
            "{}",
            &text[..80]
        );
    }
}
