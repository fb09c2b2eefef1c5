//! Markdown tables, for terminals and for documents.

use super::escape::visible;

/// A Markdown table, padded so that columns are aligned on a terminal too. Columns with a cell that begins with a digit or
/// a sign are right-aligned. Without rows it is empty.
pub fn markdown(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| row.iter().map(|text| cell(text)).collect())
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let head: Vec<String> = head.iter().map(|text| cell(text)).collect();
    let columns: Vec<Column> = (0..head.len())
        .map(|column| Column::of(&head[column], rows.iter().filter_map(|row| row.get(column))))
        .collect();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let texts = |row: &[String]| {
        columns
            .iter()
            .zip(row)
            .map(|(column, text)| column.text(text))
            .collect()
    };
    let mut table = line(texts(&head)) + &line(columns.iter().map(Column::rule).collect());
    for row in &rows {
        table += &line(texts(row));
    }
    table
}

struct Column {
    width: usize,
    of_numbers: bool,
}

impl Column {
    fn of<'a>(head: &str, cells: impl Iterator<Item = &'a String>) -> Self {
        let begins_a_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit() || "+-−~".contains(c));
        let mut column = Self {
            width: head.chars().count().max(3),
            of_numbers: false,
        };
        for cell in cells {
            column.width = column.width.max(cell.chars().count());
            column.of_numbers |= begins_a_number(cell);
        }
        column
    }

    fn text(&self, text: &str) -> String {
        let width = self.width;
        match self.of_numbers {
            true => format!("{text:>width$}"),
            false => format!("{text:<width$}"),
        }
    }

    fn rule(&self) -> String {
        match self.of_numbers {
            true => "-".repeat(self.width - 1) + ":",
            false => "-".repeat(self.width),
        }
    }
}

/// Escapes a text for a table's cell.
fn cell(text: &str) -> String {
    visible(text).replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_at_the_right() {
        let rows = [["a", "1.5", "–"], ["long|er", "10", "diverged"], ["b", "–", "–"]];
        let rows = rows.map(|row| row.map(String::from).to_vec());
        assert_eq!(
            markdown(&["x", "n", "why"], rows),
            "\
| x        |   n | why      |
| -------- | --: | -------- |
| a        | 1.5 | –        |
| long\\|er |  10 | diverged |
| b        |   – | –        |
"
        );
        assert_eq!(markdown(&["x"], []), "");
    }
}
