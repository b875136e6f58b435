//! What a command found or did, before it is put into a format.

use crate::args::Output;
use serde_json::Value;

/// The result of a command that could do its work.
#[derive(Debug)]
pub struct Outcome {
    /// For people; ends with a newline.
    pub text: String,
    /// For programs.
    pub data: Value,
    /// For `-o yaml`, where it is more than `data` in another syntax.
    pub yaml: Option<String>,
    /// Worth knowing, on stderr; also in `data`, under `warnings`.
    pub warnings: Vec<String>,
    /// False when the news is bad: exit code 1.
    pub success: bool,
    /// True when standard output has it already, as after a watch.
    pub is_written: bool,
}

/// What goes to the two streams, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Printed {
    /// To standard output.
    pub stdout: String,
    /// To standard error.
    pub stderr: String,
    /// 0, 1 or 2; see the crate's documentation.
    pub exit_code: u8,
}

impl Outcome {
    /// Good news, shown both ways.
    pub fn new(text: String, data: Value) -> Self {
        Self {
            text,
            data,
            yaml: None,
            warnings: Vec::new(),
            success: true,
            is_written: false,
        }
    }

    /// With these warnings.
    pub fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    /// Puts the result into a format.
    pub fn print(&self, format: Output) -> Printed {
        let mut data = self.data.clone();
        if let (Value::Object(fields), false) = (&mut data, self.warnings.is_empty()) {
            fields.insert("warnings".to_owned(), Value::from(self.warnings.clone()));
        }
        let stdout = match (format, &self.yaml) {
            _ if self.is_written => String::new(),
            (Output::Text, _) => self.text.clone(),
            (Output::Json, _) => json_text(&data),
            (Output::Yaml, Some(yaml)) => yaml.clone(),
            (Output::Yaml, None) => yaml_text(&data),
        };
        let stderr = self
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}\n"))
            .collect();
        Printed {
            stdout,
            stderr,
            exit_code: u8::from(!self.success),
        }
    }
}

/// Indented JSON with a newline at its end.
pub fn json_text(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A value as YAML.
pub fn yaml_text(value: &impl serde::Serialize) -> String {
    // The values are trees of plain data, which YAML can always hold; if it could not, the reader is told, not the user
    // of some other format.
    serde_norway::to_string(value).unwrap_or_else(|error| format!("# cannot be written as YAML: {error}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn warnings_reach_people_on_stderr_and_programs_in_the_value() {
        let outcome = Outcome::new("done\n".into(), json!({"a": 1})).with_warnings(vec!["slow".into()]);
        let text = outcome.print(Output::Text);
        assert_eq!(
            (text.stdout.as_str(), text.stderr.as_str(), text.exit_code),
            ("done\n", "warning: slow\n", 0)
        );
        let json: Value = serde_json::from_str(&outcome.print(Output::Json).stdout).unwrap();
        assert_eq!(json, json!({"a": 1, "warnings": ["slow"]}));
        let yaml: Value = serde_norway::from_str(&outcome.print(Output::Yaml).stdout).unwrap();
        assert_eq!(yaml, json);
    }
}
