//! Policy kinds as people type them.

use kilocard_policy::config::Kind;

/// The short form of a kind: `routing` for `RoutingPolicy`.
pub fn short(kind: Kind) -> String {
    let lower = kind.as_str().to_ascii_lowercase();
    lower.strip_suffix("policy").unwrap_or(&lower).to_owned()
}

/// Reads a kind in any case, in full, in short or in the plural.
///
/// # Errors
/// A message that lists the kinds there are.
pub fn parse_kind(text: &str) -> Result<Kind, String> {
    let given = text.to_ascii_lowercase();
    let matches = |kind: Kind| {
        let short = short(kind);
        [short.clone(), format!("{short}policy"), format!("{short}policies")].contains(&given)
    };
    if let Some(kind) = Kind::ALL.iter().copied().find(|kind| matches(*kind)) {
        return Ok(kind);
    }
    let known: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| format!("{} ({})", kind.as_str(), short(*kind)))
        .collect();
    Err(format!("there is no kind {text:?}; the kinds are {}", known.join(", ")))
}
