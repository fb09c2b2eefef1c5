//! Who may ask: a page on this machine, or a program that has the token.
//!
//! A page from elsewhere that is open in the same browser must not reach the server. Its requests carry its own `Origin`, or, if
//! its name was made to point to this machine (DNS rebinding), its own `Host`; both are refused.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::http::{HeaderMap, Method, StatusCode, header};

/// The header with which pages send the token.
pub const TOKEN_HEADER: &str = "x-studio-token";

/// The cookie that keeps the token for the files of a page.
const COOKIE: &str = "studio-token";

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 16;

/// What a request needs to be answered.
#[derive(Clone, Debug)]
pub struct Access {
    /// The secret of this process, which its pages know.
    pub token: String,
    /// Whether every request needs it: the server can be reached from other machines.
    everywhere: bool,
    /// The values of `Host` that are this server's. None: any, because the token is needed for everything.
    hosts: Option<Vec<String>>,
}

impl Access {
    /// The rules of a server that listens at `address`.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(address: SocketAddr) -> Result<Self> {
        let mut random = [0; TOKEN_BYTES];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random))
            .context("/dev/urandom cannot be read")?;
        let port = address.port();
        let names = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}"));
        let loopback = address.ip().is_loopback();
        Ok(Self {
            token: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            everywhere: !loopback,
            hosts: loopback.then(|| [&names[..], &[address.to_string()]].concat()),
        })
    }

    /// The address to open, which has the token in it if it is needed.
    pub fn url(&self, address: SocketAddr) -> String {
        match self.everywhere {
            true => format!("http://{address}/?token={}", self.token),
            false => format!("http://{address}/"),
        }
    }

    /// The cookie that a page sets, where it is needed.
    pub fn cookie(&self) -> Option<String> {
        self.everywhere
            .then(|| format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/", self.token))
    }

    /// Whether a request may be answered.
    ///
    /// # Errors
    /// The status and the reason to refuse it with.
    pub fn check(&self, method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
        let host =
            single(headers, header::HOST.as_str())?.ok_or((StatusCode::BAD_REQUEST, "the request has no Host"))?;
        if self
            .hosts
            .as_ref()
            .is_some_and(|hosts| !hosts.iter().any(|own| own.eq_ignore_ascii_case(host)))
        {
            return Err((StatusCode::FORBIDDEN, "the Host is not this server's"));
        }
        if let Some(origin) = single(headers, header::ORIGIN.as_str())?
            && origin
                .strip_prefix("http://")
                .is_none_or(|origin| !origin.eq_ignore_ascii_case(host))
        {
            return Err((StatusCode::FORBIDDEN, "the Origin is another site"));
        }
        let changes = path.starts_with("/api/") && *method != Method::GET && *method != Method::HEAD;
        let given = self.has_token(query, headers);
        if self.everywhere && !given {
            return Err((StatusCode::UNAUTHORIZED, "the token of the printed address is needed"));
        }
        if changes && !single(headers, TOKEN_HEADER)?.is_some_and(|given| same(given, &self.token)) {
            return Err((StatusCode::FORBIDDEN, "the page's token is needed; reload the page"));
        }
        Ok(())
    }

    fn has_token(&self, query: Option<&str>, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let cookies = text(header::COOKIE.as_str()).unwrap_or_default().split(';');
        let cookie = cookies.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        let asked = query
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.strip_prefix("token="));
        let mut given = cookie.chain(bearer).chain(asked).chain(text(TOKEN_HEADER));
        given.any(|given| same(given, &self.token))
    }
}

/// Status and reason of a refusal.
pub type Refusal = (StatusCode, &'static str);

/// The value of a header that may come once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match (first.map(|value| value.to_str()), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        _ => Err((StatusCode::BAD_REQUEST, "a header is given twice or is no text")),
    }
}

/// Compares secrets in a time that doesn't tell where they differ.
fn same(given: &str, secret: &str) -> bool {
    let differences = given.bytes().zip(secret.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == secret.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(
        access: &Access,
        method: Method,
        path: &str,
        query: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        match access.check(&method, path, query, &map) {
            Ok(()) => 200,
            Err((status, _)) => status.as_u16(),
        }
    }

    #[test]
    fn on_loopback_hosts_and_origins_count_and_elsewhere_the_token() {
        let local = Access::new("127.0.0.1:81".parse().unwrap()).unwrap();
        let own = ("host", "127.0.0.1:81");
        assert_eq!(status(&local, Method::GET, "/", None, &[own]), 200);
        assert_eq!(status(&local, Method::GET, "/", None, &[("host", "LOCALHOST:81")]), 200);
        assert_eq!(
            status(&local, Method::GET, "/", None, &[("host", "evil.example:81")]),
            403
        );
        assert_eq!(status(&local, Method::GET, "/", None, &[own, ("origin", "null")]), 403);
        assert_eq!(status(&local, Method::POST, "/v1/completions", None, &[own]), 200);
        assert_eq!(status(&local, Method::POST, "/api/runs", None, &[own]), 403);
        let token = local.token.clone();
        assert_eq!(
            status(&local, Method::POST, "/api/runs", None, &[own, (TOKEN_HEADER, &token)]),
            200
        );

        let open = Access::new("0.0.0.0:81".parse().unwrap()).unwrap();
        assert_ne!(open.token, local.token);
        let any = ("host", "192.0.2.1:81");
        assert_eq!(status(&open, Method::GET, "/", None, &[any]), 401);
        assert_eq!(status(&open, Method::GET, "/", Some("token=0"), &[any]), 401);
        let query = format!("token={}", open.token);
        assert_eq!(status(&open, Method::GET, "/", Some(&query), &[any]), 200);
        let bearer = format!("Bearer {}", open.token);
        assert_eq!(
            status(
                &open,
                Method::POST,
                "/v1/completions",
                None,
                &[any, ("authorization", &bearer)]
            ),
            200
        );
        let cookie = open.cookie().unwrap();
        let cookie = cookie.split(';').next().unwrap();
        assert_eq!(status(&open, Method::GET, "/", None, &[any, ("cookie", cookie)]), 200);
        assert_eq!(
            status(&open, Method::POST, "/api/runs", None, &[any, ("cookie", cookie)]),
            403
        );
    }
}
