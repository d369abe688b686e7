//! Aligned columns: two blanks between them, numbers to the right.

use crate::human::printable;

/// Lays out rows below a header. A title that begins with `>` is of a column of numbers.
pub fn layout<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> String {
    let right: [bool; N] = titles.map(|title| title.starts_with('>'));
    let header = titles.map(|title| title.trim_start_matches('>').to_owned());
    let rows: Vec<[String; N]> = std::iter::once(header)
        .chain(rows.iter().map(|row| row.each_ref().map(|c| printable(c))))
        .collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            match right[column] {
                true => line.push_str(&format!("{cell:>width$}  ")),
                false => line.push_str(&format!("{cell:<width$}  ")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_end_without_blanks() {
        let rows = [
            ["web".into(), "12".into(), "ok".into()],
            ["a-long-name".into(), "7".into(), String::new()],
        ];
        assert_eq!(
            layout(["NAME", ">SIZE", "STATE"], &rows),
            "NAME         SIZE  STATE\nweb            12  ok\na-long-name     7\n"
        );
    }

    #[test]
    fn letters_count_not_bytes_and_nothing_steers_the_terminal() {
        let rows = [["né".into(), "1".into()], ["\x1b[2J".into(), "2".into()]];
        assert_eq!(layout(["A", "B"], &rows), "A     B\nné    1\n?[2J  2\n");
    }
}
