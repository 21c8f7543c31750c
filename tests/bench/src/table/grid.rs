//! A table as text, with columns as wide as their cells. It must never know what the cells mean.

use std::fmt::{self, Display, Formatter};

/// The first column is aligned to the left, the others to the right.
pub(super) struct Grid {
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(super) fn new(title: &str, columns: impl IntoIterator<Item = String>) -> Self {
        let mut grid = Self { rows: Vec::new() };
        grid.row(title.to_owned(), columns);
        grid
    }

    pub(super) fn row(&mut self, title: String, cells: impl IntoIterator<Item = String>) {
        self.rows.push(std::iter::once(title).chain(cells).collect());
    }

    /// A line without cells.
    pub(super) fn heading(&mut self, title: &str) {
        self.rows.push(vec![title.to_owned()]);
    }

    /// Whether it has only its first line.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max();
        (0..columns).map(|column| width(column).unwrap_or(0)).collect()
    }
}

impl Display for Grid {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let cell = if column == 0 { format!("{cell:width$}") } else { format!("   {cell:>width$}") };
                line.push_str(&cell);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let mut grid = Grid::new("rows", ["a".to_owned(), "b".to_owned()]);
        assert!(grid.is_empty());
        grid.heading("µ");
        grid.row("one".to_owned(), ["10 (9–11)".to_owned(), "–".to_owned()]);
        assert_eq!(grid.to_string(), "rows           a   b\nµ\none    10 (9–11)   –\n");
    }
}
