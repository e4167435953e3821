//! A server's metrics, read while it runs.

use crate::load;
use crate::server::Process;

/// All samples of one moment.
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Reads them.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn read(server: &Process) -> Result<Self, String> {
        let text = load::get(server.admin, "/metrics").await.ok_or("a server gives no metrics")?;
        Ok(Self { text })
    }

    /// The sum of the samples of this name that have all of these labels.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let lines = self.text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_apart_by_name_and_labels() {
        let text = "# HELP a_sum x\na_sum{model=\"m\",phase=\"compute\"} 1.5\na_sum{model=\"n\"} 2\na_sum_x{model=\"m\"} 9\nb 4\n";
        let metrics = Metrics { text: text.to_owned() };
        assert!((metrics.sum("a_sum", &["model=\"m\""]) - 1.5).abs() < f64::EPSILON);
        assert!((metrics.sum("a_sum", &[]) - 3.5).abs() < f64::EPSILON);
        assert!((metrics.sum("b", &[]) - 4.0).abs() < f64::EPSILON);
    }
}
