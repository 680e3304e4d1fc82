//! "Did you mean": the known word that is closest to a mistyped one.

/// Most edits between a word and what it was meant to be.
const EDITS: usize = 2;
/// A longer word is not looked for: it may come from a file that means harm.
const LONGEST: usize = 64;

/// The candidate with the fewest edits from `word`, if they are few.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > LONGEST {
        return None;
    }
    // A short word is near to everything.
    let most = EDITS.min(length / 2);
    let near = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    near.filter(|(edits, _)| *edits <= most).min().map(|(_, candidate)| candidate)
}

/// Edit distance of two short words (insert, delete, substitute, swap two neighbours).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (row[j] + usize::from(x != y)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_edits_only() {
        assert_eq!((distance("rnu", "run"), distance("", "abc"), distance("ps", "ps"), distance("abc", "cab")), (1, 3, 0, 2));
        let words = ["keep_blobs", "limits", "run"];
        for (typed, meant) in [
            ("keep_blob", Some("keep_blobs")),
            ("limit", Some("limits")),
            ("rnu", Some("run")),
            ("x", None),
            ("ran", Some("run")),
            ("rex", None),
            ("frobnicate", None),
        ] {
            assert_eq!(nearest(typed, words), meant, "{typed}");
        }
    }
}
