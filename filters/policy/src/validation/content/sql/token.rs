//! SQL's tokens, as far as shapes of injections need them.

/// One token. Blanks, block comments, backquotes and `+` (a blank in forms) only separate tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// `'` or `"`, but not the apostrophe of a contraction.
    Quote,
    Number,
    /// A name that is no keyword.
    Word,
    /// `=`, `<`, `>`, `!=` and their like.
    Compare,
    /// `or`, `and`, `xor`, `||`, `&&`.
    Logic,
    /// `--`, or the beginning of a block that is never closed.
    Comment,
    Hash,
    Semicolon,
    Open,
    Close,
    Comma,
    Dot,
    Star,
    At,
    Other,
    /// After the last one.
    End,
    Not,
    Like,
    True,
    Null,
    Union,
    /// `all`, `distinct`.
    All,
    Select,
    From,
    Where,
    Having,
    /// `order`, `group`.
    Order,
    By,
    Insert,
    Into,
    /// `outfile`, `dumpfile`.
    File,
    Values,
    Update,
    Set,
    Delete,
    Drop,
    Alter,
    Create,
    Truncate,
    /// What can be dropped: `table`, `database`, …
    Object,
    Exec,
    Declare,
    Waitfor,
    Shutdown,
    /// A function that injections call and prose does not put a bracket after.
    Function,
    /// A name that is hardly ever written but to attack.
    Suspect,
    /// A schema or package that injections read or call.
    Catalogue,
}

/// All tokens, with [`Token::End`] as the last one.
pub(super) fn read(view: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(view.len() / 4 + 1);
    let mut rest = view;
    let mut before = b' ';
    while let Some((byte, after)) = rest.split_first() {
        let (token, length) = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => word(rest),
            b'\'' | b'"' => quote(*byte, before, after),
            _ => symbol(*byte, after),
        };
        tokens.extend(token);
        let (read, left) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        before = read.last().copied().unwrap_or(b' ');
        rest = left;
    }
    tokens.push(Token::End);
    tokens
}

/// The token at the beginning, and how many bytes it has.
type Read = (Option<Token>, usize);

fn word(text: &[u8]) -> Read {
    let length = count(text, is_of_word);
    let token = text.get(..length).and_then(keyword).unwrap_or(Token::Word);
    (Some(token), length)
}

/// The apostrophe of a contraction is part of a word: `don't`, `they're`.
fn quote(byte: u8, before: u8, after: &[u8]) -> Read {
    let end = count(after, is_of_word);
    let is_ending = after.get(..end).is_some_and(|ending| {
        [&b"s"[..], b"t", b"m", b"d", b"re", b"ve", b"ll"]
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    });
    if byte == b'\'' && before.is_ascii_alphabetic() && is_ending {
        (None, 1 + end)
    } else {
        (Some(Token::Quote), 1)
    }
}

fn symbol(byte: u8, after: &[u8]) -> Read {
    let single = |token| (Some(token), 1);
    match (byte, after) {
        (b'0'..=b'9', _) => {
            let more = count(after, |byte| byte.is_ascii_digit() || byte == b'.');
            (Some(Token::Number), 1 + more)
        }
        (b'-', [b'-', ..]) => (Some(Token::Comment), 1 + count(after, |byte| byte == b'-')),
        // MySQL runs what stands in `/*!50000 … */`.
        (b'/', [b'*', b'!', version @ ..]) => (None, 3 + count(version, |byte| byte.is_ascii_digit())),
        (b'/', [b'*', comment @ ..]) => {
            // One that is never closed cuts off the rest, as `--` does.
            match comment.windows(2).position(|pair| pair == b"*/") {
                Some(end) => (None, 4 + end),
                None => (Some(Token::Comment), usize::MAX),
            }
        }
        (b'*', [b'/', ..]) => (None, 2),
        (b'|', [b'|', ..]) | (b'&', [b'&', ..]) => (Some(Token::Logic), 2),
        (b'=' | b'<' | b'>', _) | (b'!', [b'=', ..]) => {
            let more = count(after, |byte| matches!(byte, b'=' | b'<' | b'>'));
            (Some(Token::Compare), 1 + more)
        }
        (b'@', _) => (Some(Token::At), 1 + count(after, |byte| byte == b'@')),
        (b'#', _) => single(Token::Hash),
        (b';', _) => single(Token::Semicolon),
        (b'(', _) => single(Token::Open),
        (b')', _) => single(Token::Close),
        (b',', _) => single(Token::Comma),
        (b'.', _) => single(Token::Dot),
        (b'*', _) => single(Token::Star),
        (0..=b' ' | b'+' | b'`', _) => (None, 1),
        _ => single(Token::Other),
    }
}

fn count(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| belongs(**byte)).count()
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn keyword(word: &[u8]) -> Option<Token> {
    const LONGEST: usize = 18;
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"or" | b"and" | b"xor" => Token::Logic,
        b"not" => Token::Not,
        b"like" | b"rlike" | b"regexp" => Token::Like,
        b"true" | b"false" => Token::True,
        b"null" => Token::Null,
        b"union" => Token::Union,
        b"all" | b"distinct" => Token::All,
        b"select" => Token::Select,
        b"from" => Token::From,
        b"where" => Token::Where,
        b"having" => Token::Having,
        b"order" | b"group" => Token::Order,
        b"by" => Token::By,
        b"insert" => Token::Insert,
        b"into" => Token::Into,
        b"outfile" | b"dumpfile" => Token::File,
        b"values" => Token::Values,
        b"update" => Token::Update,
        b"set" => Token::Set,
        b"delete" => Token::Delete,
        b"drop" => Token::Drop,
        b"alter" => Token::Alter,
        b"create" => Token::Create,
        b"truncate" => Token::Truncate,
        b"table" | b"database" | b"schema" | b"view" | b"index" | b"procedure" | b"trigger" | b"user" => Token::Object,
        b"exec" | b"execute" => Token::Exec,
        b"declare" => Token::Declare,
        b"waitfor" => Token::Waitfor,
        b"shutdown" => Token::Shutdown,
        b"sleep" | b"benchmark" | b"exists" | b"ascii" | b"substr" | b"substring" | b"concat" | b"char" | b"count"
        | b"version" | b"length" | b"if" | b"cast" | b"convert" | b"hex" => Token::Function,
        b"pg_sleep" | b"xp_cmdshell" | b"load_file" | b"extractvalue" | b"updatexml" => Token::Suspect,
        b"information_schema" | b"dbms_pipe" | b"dbms_lock" | b"utl_http" | b"utl_inaddr" => Token::Catalogue,
        _ => return None,
    })
}
