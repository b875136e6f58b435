//! What a template engine would evaluate.

/// Whether there is an expression with its end: `${…}` and `#{…}` (expression languages, Log4j, Ruby), `{{…}}` and `{%…%}`
/// (Jinja, Twig, Handlebars), `<%…%>` (ERB, JSP). What is never closed is never evaluated, and two closing braces alone
/// are JSON.
pub(super) fn is_in(view: &[u8]) -> bool {
    let (mut expression, mut braces, mut statement, mut tag) = (false, false, false, false);
    let mut before = 0;
    for byte in view.iter().copied() {
        match [before, byte] {
            [b'$' | b'#', b'{'] => expression = true,
            [b'{', b'{'] => braces = true,
            [b'{', b'%'] => statement = true,
            [b'<', b'%'] => tag = true,
            [b'}', b'}'] if braces => return true,
            [b'%', b'}'] if statement => return true,
            [b'%', b'>'] if tag => return true,
            [_, b'}'] if expression => return true,
            _ => {}
        }
        before = byte;
    }
    false
}
