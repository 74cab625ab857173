//! Percentiles of measured values.

/// Returns the value below which this share of `sorted` lies, by nearest rank; `NaN` if `sorted` is
/// empty.
pub(super) fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted.get(rank(sorted.len(), share).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Returns the rank of a percentile among `count` values, from 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "an index into a list"
)]
pub(super) fn rank(count: usize, share: f64) -> usize {
    (count as f64 * share).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let waits: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&waits, 0.50), 50.0);
        assert_eq!(percentile(&waits, 0.99), 99.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
