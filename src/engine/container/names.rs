//! Generated container names: `adjective_surname`, from our own lists.

use crate::base::{ContainerName, random_hex};

const ADJECTIVES: &[&str] = &[
    "able", "agile", "amber", "ample", "apt", "ardent", "azure", "balmy", "bold", "brave", "bright", "brisk", "calm", "candid", "chilly", "civil",
    "clear", "clever", "cosy", "crisp", "daring", "deft", "eager", "early", "earnest", "easy", "exact", "fair", "fancy", "fierce", "fine", "firm",
    "fleet", "fluent", "fond", "frank", "fresh", "gentle", "giddy", "glad", "golden", "grand", "hardy", "hasty", "honest", "humble", "ideal",
    "jolly", "keen", "kind", "lively", "loyal", "lucid", "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "plain", "polite", "prime",
    "proud", "quick", "quiet", "rapid", "ready", "robust", "royal", "rustic", "serene", "sharp", "silent", "sincere", "sleek", "smart", "snug",
    "solid", "spry", "steady", "still", "stout", "sturdy", "sunny", "swift", "tender", "tidy", "tough", "trusty", "upbeat", "vital", "vivid", "warm",
    "wise", "witty",
];

const SURNAMES: &[&str] = &[
    "abel",
    "ampere",
    "archimedes",
    "babbage",
    "bernoulli",
    "boole",
    "bohr",
    "brahe",
    "braille",
    "cantor",
    "carson",
    "cauchy",
    "celsius",
    "copernicus",
    "coulomb",
    "curie",
    "dalton",
    "darwin",
    "descartes",
    "dijkstra",
    "doppler",
    "edison",
    "einstein",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fibonacci",
    "fourier",
    "franklin",
    "galilei",
    "galois",
    "gauss",
    "germain",
    "goedel",
    "goodall",
    "hamilton",
    "hamming",
    "hawking",
    "heisenberg",
    "herschel",
    "hertz",
    "hilbert",
    "hooke",
    "hopper",
    "hubble",
    "huygens",
    "hypatia",
    "joule",
    "kepler",
    "kirchhoff",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "laplace",
    "leibniz",
    "linnaeus",
    "lovelace",
    "maxwell",
    "meitner",
    "mendel",
    "mendeleev",
    "mirzakhani",
    "newton",
    "nightingale",
    "nobel",
    "noether",
    "ohm",
    "pascal",
    "pasteur",
    "pauli",
    "planck",
    "poincare",
    "ptolemy",
    "ramanujan",
    "riemann",
    "ride",
    "roentgen",
    "rubin",
    "rutherford",
    "schroedinger",
    "shannon",
    "snell",
    "tesla",
    "thales",
    "torvalds",
    "turing",
    "volta",
    "watt",
    "wright",
    "wu",
];

/// A random name. `attempt` counts conflicts so far: after the first a number is appended.
pub(in crate::engine) fn generate(attempt: u32) -> ContainerName {
    let random = u32::from_str_radix(&random_hex(8), 16).expect("invariant: eight hexadecimal digits are a u32") as usize;
    let adjective = ADJECTIVES[random % ADJECTIVES.len()];
    let surname = SURNAMES[random / ADJECTIVES.len() % SURNAMES.len()];
    let text = match attempt {
        0 => format!("{adjective}_{surname}"),
        _ => format!("{adjective}_{surname}{}", random / 7 % 10usize.pow(attempt.min(6))),
    };
    text.parse().expect("invariant: both lists hold only letters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_makes_a_valid_name() {
        for word in ADJECTIVES.iter().chain(SURNAMES) {
            assert!(word.parse::<ContainerName>().is_ok(), "{word}");
        }
        assert!(generate(0).as_str().contains('_'));
        assert_ne!(generate(9).as_str(), generate(9).as_str());
    }
}
