//! Columns as Docker prints them: each cell but the last is padded to its column's widest cell plus three blanks,
//! ten characters at least.

const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Lays out lines of tab-separated cells.
pub fn layout(lines: &[String], min_width: usize) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        // The last cell of a row belongs to no column.
        for (i, cell) in row.iter().take(row.len().saturating_sub(1)).enumerate() {
            if widths.len() <= i {
                widths.push(min_width);
            }
            widths[i] = widths[i].max(cell.chars().count() + PADDING);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if i + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', widths[i].saturating_sub(cell.chars().count())));
            }
        }
        text.push('\n');
    }
    text
}

/// [`layout`] with the usual minimum width.
pub fn render(lines: &[String]) -> String {
    layout(lines, MIN_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn columns() {
        let lines = ["ID\tIMAGE\tNAMES".to_owned(), "0123456789ab\ta\tweb".to_owned(), "x\tbusybox:latest\td".to_owned()];
        let expected = "ID             IMAGE            NAMES\n0123456789ab   a                web\nx              busybox:latest   d\n";
        assert_eq!(render(&lines), expected);
        assert_eq!(render(&["one".to_owned()]), "one\n");
        assert_eq!(render(&["a\tb".to_owned()]), "a         b\n");
    }
}
