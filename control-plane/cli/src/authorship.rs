//! Who makes a change and why, as it is kept in the history.

use crate::args::AuthorArgs;
use std::path::Path;

/// Where Linux tells the host's name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// Who makes a change and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorship {
    /// As given, or `user@host`.
    pub author: String,
    /// As given.
    pub reason: Option<String>,
}

impl Authorship {
    /// As the flags say; the author is otherwise the user of this process at this host.
    pub fn of(args: &AuthorArgs) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let author = args.author.clone().unwrap_or_else(|| {
            let user = variable("USER").or_else(|| variable("LOGNAME"));
            user_at_host(user.as_deref(), read_hostname(Path::new(HOSTNAME)).as_deref())
        });
        Self {
            author,
            reason: args.reason.clone(),
        }
    }

    /// Of a change whose reason begins with what it does.
    pub fn because(args: &AuthorArgs, what: &str) -> Self {
        let reason = match &args.reason {
            Some(reason) => format!("{what}: {reason}"),
            None => what.to_owned(),
        };
        Self {
            reason: Some(reason),
            ..Self::of(args)
        }
    }
}

fn read_hostname(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

/// Nobody has checked these; they must still not break a line of the history.
fn user_at_host(user: Option<&str>, host: Option<&str>) -> String {
    let clean = |text: Option<&str>, otherwise: &str| {
        let text: String = text
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_control())
            .take(63)
            .collect();
        match text.trim() {
            "" => otherwise.to_owned(),
            text => text.to_owned(),
        }
    };
    format!("{}@{}", clean(user, "unknown"), clean(host, "unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_is_always_one_readable_line() {
        assert_eq!(user_at_host(Some("ada"), Some("laptop\n")), "ada@laptop");
        assert_eq!(user_at_host(None, Some("")), "unknown@unknown");
        assert_eq!(user_at_host(Some("a\u{1b}b"), None), "ab@unknown");
    }

    #[test]
    fn what_a_change_does_comes_before_why() {
        let mut args = AuthorArgs {
            author: Some("ada".into()),
            reason: None,
        };
        assert_eq!(
            Authorship::because(&args, "rollback to 5").reason.as_deref(),
            Some("rollback to 5")
        );
        args.reason = Some("wrong".into());
        assert_eq!(
            Authorship::because(&args, "rollback to 5").reason.as_deref(),
            Some("rollback to 5: wrong")
        );
    }
}
