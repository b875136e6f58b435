//! Reading counters from a Prometheus text page (exposition format 0.0.4), as far as the testbed needs it.

/// The sum of all samples of `name` whose labels hold each of `labels`; 0 when there is none.
pub fn sum(page: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    samples(page)
        .filter(|sample| sample.name == name)
        .filter(|sample| {
            labels
                .iter()
                .all(|(key, value)| sample.labels.contains(&format!("{key}=\"{value}\"")))
        })
        .map(|sample| sample.value)
        .sum()
}

struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

fn samples(page: &str) -> impl Iterator<Item = Sample<'_>> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = match line.rfind('}') {
            Some(end) => line.split_at(end + 1),
            None => line.split_once(' ')?,
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let value = value.split_whitespace().next()?.parse().ok()?;
        Some(Sample { name, labels, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "# TYPE r counter\nr_total{rpc=\"a\",code=\"0\"} 3\nr_total{rpc=\"b\",code=\"0\"} 4\nup 1\nrr_total 9\n";

    #[test]
    fn samples_are_summed_over_matching_labels_only() {
        assert_eq!(sum(PAGE, "r_total", &[]), 7.0);
        assert_eq!(sum(PAGE, "r_total", &[("rpc", "b")]), 4.0);
        assert_eq!(sum(PAGE, "r_total", &[("rpc", "c")]), 0.0);
        assert_eq!(sum(PAGE, "up", &[]), 1.0);
    }
}
