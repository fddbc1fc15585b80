//! What was probably meant by a word that is unknown.

/// The known word that is nearest to `word`, if one is near enough: at most one slip for every
/// three letters, at least one. Of several equally near ones the first.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().take(LONGEST).count() / 3).max(1);
    let distances = known.into_iter().map(|candidate| (distance(word, candidate), candidate));
    let near = distances.filter(|(distance, _)| *distance <= most);
    near.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// Slips between two words: letters inserted, left out, replaced, or swapped with the next one
/// (optimal string alignment). Case and `-` for `_` count for nothing.
fn distance(a: &str, b: &str) -> usize {
    let letters = |word: &str| -> Vec<char> {
        word.chars()
            .take(LONGEST)
            .map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() })
            .collect()
    };
    let (a, b) = (letters(a), letters(b));
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                let two_before: &Vec<usize> = &before;
                least = least.min(two_before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Letters of a word that are looked at, so that a long one costs little.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_slips() {
        let cases = [
            ("rank", "rank", 0),
            ("", "abc", 3),
            ("lerning_rate", "learning_rate", 1),
            ("setps", "steps", 1),
            ("kitten", "sitting", 3),
            ("Max-New-Tokens", "max_new_tokens", 0),
        ];

        for (a, b, slips) in cases {
            assert_eq!((distance(a, b), distance(b, a)), (slips, slips), "{a} {b}");
        }
    }

    #[test]
    fn suggests_what_is_near_and_nothing_else() {
        let known = ["rank", "steps", "learning_rate", "seed"];

        assert_eq!(nearest("lerning_rat", known), Some("learning_rate"));
        assert_eq!(nearest("step", known), Some("steps"));
        assert_eq!(nearest("temperature", known), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), known), None);
    }
}
