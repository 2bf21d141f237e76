//! What a grant is bound to, and what an approver is shown of it.

use super::*;

#[test]
fn pages_join_to_the_whole_and_cut_no_character() {
    let text = "ä🦀x\u{0}".repeat(40_000);
    let (mut joined, mut from) = (String::new(), Some(0));
    while let Some(at) = from {
        let page = Page::of(text.as_bytes(), at);
        joined.push_str(&page.text);
        from = page.next;
    }
    assert_eq!(joined, text);
    assert_eq!(Page::of(b"abc", 99), Page { text: String::new(), next: None });
    let continued = vec![0x80; 200_000];
    assert!(Page::of(&continued, 0).next.is_some_and(|next| next > 0), "goes on whatever it is");
}

#[test]
fn no_two_different_contents_have_one_digest() {
    let key = DigestKey::new(&[7; 32]);
    let (run, session) = (RunId(Ulid::generate()), SessionId(Ulid::generate()));
    let of = |subject: &str, content: &str, target: &str| {
        let resource = Resource { id: target.into(), tags: Vec::new() };
        Asked { subject: subject.into(), resource, ..asked(run, session, content) }.digest(&key)
    };
    let all = [of("ab", "c", "d"), of("a", "bc", "d"), of("ab", "", "cd"), of("ab", "c", "da"), of("", "abc", "d")];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    let elsewhere = Asked { session: SessionId(Ulid::generate()), ..asked(run, session, "c") };
    assert_eq!(elsewhere.digest(&key), asked(run, session, "c").digest(&key), "a retry has the same");
}
