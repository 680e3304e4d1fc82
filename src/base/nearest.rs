//! "Did you mean": the known word that is closest to a mistyped one.

/// Most edits between a word and what it was meant to be.
const EDITS: usize = 2;

/// The candidate with the fewest edits from `word`, if they are few.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A short word is near to everything.
    let most = EDITS.min(word.chars().count().saturating_sub(1));
    let near = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    near.filter(|(edits, _)| *edits <= most).min().map(|(_, candidate)| candidate)
}

/// Edit distance of two short words (insert, delete, substitute).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_edits_only() {
        assert_eq!((distance("rnu", "run"), distance("", "abc"), distance("ps", "ps")), (2, 3, 0));
        let words = ["keep_blobs", "limits", "run"];
        for (typed, meant) in [("keep_blob", Some("keep_blobs")), ("limit", Some("limits")), ("rnu", Some("run")), ("x", None), ("frobnicate", None)]
        {
            assert_eq!(nearest(typed, words), meant, "{typed}");
        }
    }
}
