//! The pages, which are in the binary: plain HTML, CSS and JavaScript, with uPlot for curves; nothing fetched from elsewhere.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Studio;
use super::http::answer::{self, Failure};

/// The shell of all pages; `{{token}}` in it is the token of this process.
const INDEX: &str = include_str!("pages/index.html");

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// The files of the pages: name, type, contents.
const ASSETS: [(&str, &str, &str); 17] = [
    ("icon.svg", "image/svg+xml", include_str!("pages/icon.svg")),
    ("style.css", CSS, include_str!("pages/style.css")),
    ("app.js", JAVASCRIPT, include_str!("pages/app.js")),
    ("page.js", JAVASCRIPT, include_str!("pages/page.js")),
    ("uplot.css", CSS, include_str!("pages/vendor/uplot.css")),
    ("uplot.js", JAVASCRIPT, include_str!("pages/vendor/uplot.js")),
    ("chart.js", JAVASCRIPT, include_str!("pages/chart.js")),
    ("markdown.js", JAVASCRIPT, include_str!("pages/markdown.js")),
    ("runs.js", JAVASCRIPT, include_str!("pages/runs.js")),
    ("playground.js", JAVASCRIPT, include_str!("pages/playground.js")),
    ("sampling.js", JAVASCRIPT, include_str!("pages/sampling.js")),
    ("inside.js", JAVASCRIPT, include_str!("pages/inside.js")),
    ("matrix.js", JAVASCRIPT, include_str!("pages/matrix.js")),
    ("vectors.js", JAVASCRIPT, include_str!("pages/vectors.js")),
    ("tokens.js", JAVASCRIPT, include_str!("pages/tokens.js")),
    ("course.js", JAVASCRIPT, include_str!("pages/course.js")),
    ("live.js", JAVASCRIPT, include_str!("pages/live.js")),
];

/// `GET /`.
pub async fn index(State(studio): State<Arc<Studio>>) -> Response {
    let page = INDEX.replace("{{token}}", &studio.access.token);
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let cookie = studio
        .access
        .cookie()
        .and_then(|cookie| HeaderValue::from_str(&cookie).ok());
    headers.extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    (headers, page).into_response()
}

/// `GET /assets/{name}`.
///
/// # Errors
/// There is none of that name.
pub async fn asset(Path(name): Path<String>) -> Result<Response, Failure> {
    let found = ASSETS.iter().find(|(own, ..)| *own == name);
    let missing = || Failure::bad(format!("there is no /assets/{name}")).not_found();
    let (_, kind, contents) = found.ok_or_else(missing)?;
    // The files of another version of the program must not be taken for these.
    let headers = [(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, *contents).into_response())
}

/// `GET /api/models`: the models with their steps.
pub async fn models(State(studio): State<Arc<Studio>>) -> Response {
    answer::ok(&json!({"models": studio.catalog.list()}))
}
