//! Whether a web page is behind a request: any that a browser on this machine shows could otherwise send, purge and delete, where no keys
//! are asked for.

use std::net::IpAddr;

use hyper::{
    HeaderMap, Method, Uri,
    header::{self, AsHeaderName, HeaderValue},
    http::uri::Authority,
};

/// Where requests come in that nobody signs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Door<'a> {
    /// Only this machine can call: every name that is not its own is one that somebody else's name server made lead here.
    pub(super) is_loopback: bool,
    /// What queue URLs begin with, if that is configured: its host is a name of the server's too.
    pub(super) public_url: Option<&'a str>,
}

impl Door<'_> {
    /// Whether a page is, or may be, behind it.
    pub(super) fn is_from_a_page(&self, method: &str, headers: &HeaderMap) -> bool {
        // One of these comes with whatever a page asks for, but for some requests with GET. Where somebody typed the address it is `none`.
        let site = text(headers, "sec-fetch-site");
        if headers.contains_key(header::ORIGIN) || site.is_some_and(|site| site != "none") {
            return true;
        }
        if method == Method::POST.as_str() {
            return false;
        }
        // A page of a site whose name leads here is of the same origin, and nothing else tells it.
        let host = headers.get(header::HOST);
        let is_ours = |host: &HeaderValue| host.to_str().is_ok_and(|host| self.is_name(host));
        if self.is_loopback && host.is_some_and(|host| !is_ours(host)) {
            return true;
        }
        // Without TLS, and from another machine, a browser does not say what a picture in a page is. What a page cannot have it leave out
        // tells it: not the user agent, which some let pages choose.
        let tells = |name| headers.contains_key(name);
        site.is_none() && (tells(header::REFERER) || tells(header::ACCEPT_LANGUAGE))
    }

    /// Whether it is a name of this machine's, or an address, which no name server has a hand in.
    fn is_name(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let is_local = host == "localhost" || host.ends_with(".localhost");
        let is_public = || {
            let url = self.public_url.and_then(|url| url.parse::<Uri>().ok());
            url.is_some_and(|url| {
                url.host()
                    .is_some_and(|public| public.eq_ignore_ascii_case(&host))
            })
        };
        is_address || is_local || is_public()
    }
}

fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Door<'_> = Door {
        is_loopback: true,
        public_url: Some("https://sqs.example.org:8443/x"),
    };
    const OPEN: Door<'_> = Door {
        is_loopback: false,
        public_url: None,
    };
    const BROWSER: (&str, &str) = ("user-agent", "Mozilla/5.0 (X11)");
    const LANGUAGE: (&str, &str) = ("accept-language", "en");

    fn is_from_a_page(door: Door<'_>, method: &str, given: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.insert(*name, value.parse().expect("a value"));
        }
        door.is_from_a_page(method, &headers)
    }

    #[test]
    fn what_browsers_say_of_pages() {
        for door in [LOCAL, OPEN] {
            for method in ["GET", "POST"] {
                for header in [
                    ("origin", "null"),
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-site", "same-origin"),
                ] {
                    assert!(is_from_a_page(door, method, &[header]), "{header:?}");
                }
                // Typed, and not by a browser at all.
                let typed = [("sec-fetch-site", "none"), BROWSER, LANGUAGE];
                assert!(!is_from_a_page(door, method, &typed));
                assert!(!is_from_a_page(door, method, &[]));
                assert!(!is_from_a_page(door, method, &[("user-agent", "curl/8")]));
            }
            // A picture, where the browser does not say that it is one.
            assert!(is_from_a_page(door, "GET", &[("referer", "http://a/")]));
            assert!(is_from_a_page(door, "GET", &[BROWSER, LANGUAGE]));
            assert!(!is_from_a_page(door, "GET", &[BROWSER]));
            // Pages may be let choose both, but not leave the second out.
            for value in ["*", ""] {
                let chosen = [("user-agent", "x"), ("accept-language", value)];
                assert!(is_from_a_page(door, "GET", &chosen));
                assert!(!is_from_a_page(door, "POST", &chosen));
            }
        }
    }

    #[test]
    fn names_that_lead_here_are_not_all_ours() {
        for host in [
            "localhost:9324",
            "Queues.LOCALHOST.",
            "127.0.0.1:9324",
            "[::1]:9324",
            "192.168.0.1",
            "sqs.example.org",
            "SQS.example.org:9324",
        ] {
            assert!(!is_from_a_page(LOCAL, "GET", &[("host", host)]), "{host}");
        }
        for host in ["example.org", "localhost.example.org:9324", "notlocalhost", "a b"] {
            assert!(is_from_a_page(LOCAL, "GET", &[("host", host)]), "{host}");
            // Pages say so themselves, and SDKs call by any name.
            assert!(!is_from_a_page(LOCAL, "POST", &[("host", host)]), "{host}");
            assert!(!is_from_a_page(OPEN, "GET", &[("host", host)]), "{host}");
        }
    }
}
