//! A row of small bars.

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const WIDTH: usize = 60;

/// The values as at most 60 bars. A bar stands for the largest of its values; what is not 0 is seen.
pub(super) fn sparkline(values: &[u32]) -> String {
    let most = values.iter().max().copied().unwrap_or(0);
    largest_of(values, WIDTH)
        .into_iter()
        .map(|value| BARS[(u64::from(value) * 8).div_ceil(u64::from(most.max(1))) as usize])
        .collect()
}

/// The largest value of each of at most `columns` equal stretches.
pub(super) fn largest_of(values: &[u32], columns: usize) -> Vec<u32> {
    let columns = columns.min(values.len());
    let start = |column: usize| column * values.len() / columns.max(1);
    (0..columns)
        .map(|column| values[start(column)..start(column + 1)].iter().max().copied().unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{largest_of, sparkline};

    #[test]
    fn bars_stand_for_the_largest() {
        assert_eq!(sparkline(&[0, 1, 8, 4]), " ▁█▄");
        assert_eq!(sparkline(&[]), "");
        let values: Vec<u32> = (0..1000).collect();
        assert_eq!(sparkline(&values).chars().count(), 60);
        assert_eq!(largest_of(&values, 10)[9], 999);
    }
}
