//! Suggestions for a path without a route.

use strsim::normalized_damerau_levenshtein;

/// Longest path that is compared, in bytes. The cost of a comparison is the product of both lengths.
const MAX_PATH: usize = 120;

/// Most routes that are suggested.
const MAX_ROUTES: usize = 2;

/// The least similarity of a suggested route; 1 is equality.
const LEAST: f64 = 0.8;

/// Returns the routes of `served` that resemble the path `path`, the most similar one first.
pub(crate) fn routes<'a>(path: &str, served: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    if path.len() > MAX_PATH {
        return Vec::new();
    }
    let mut found: Vec<(f64, &str)> = served
        .map(|route| (similarity(path, route), route))
        .filter(|(similarity, _)| *similarity >= LEAST)
        .collect();
    found.sort_by(|one, other| other.0.total_cmp(&one.0));
    found.into_iter().take(MAX_ROUTES).map(|(_, route)| route).collect()
}

/// Returns the similarity of a path and a route. A missing or doubled `/v1` is ignored, because clients confuse
/// base URLs with and without it.
fn similarity(path: &str, route: &str) -> f64 {
    let bare = |path: &str| path.trim_start_matches("/v1").trim_end_matches('/').to_owned();
    let (path, route) = (bare(path), bare(&filled(route, path)));
    if path.is_empty() { 0.0 } else { normalized_damerau_levenshtein(&path, &route) }
}

/// Replaces the variable segments of `route` by the segments of `path`.
fn filled(route: &str, path: &str) -> String {
    let mut names = path.split('/');
    let segments = route.split('/').map(|segment| {
        let name = names.next().filter(|name| !name.is_empty());
        if segment.starts_with('{') { name.unwrap_or(segment) } else { segment }
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_path_names_its_route() {
        let served = || crate::router::PATHS.iter().map(String::as_str);
        let id = "job_default_0_01m85476ybecavrsb79me55wqz";
        for (path, route) in [
            ("/v1/chat/completion", "/v1/chat/completions"),
            ("/chat/completions", "/v1/chat/completions"),
            ("/v1/v1/chat/completions", "/v1/chat/completions"),
            ("/jobs", "/v1/jobs"),
            (&format!("/v1/job/{id}"), "/v1/jobs/{id}"),
            (&format!("/v1/jobs/{id}/event"), "/v1/jobs/{id}/events"),
            ("/bridge/chats", "/bridge/chat"),
            ("/metric", "/metrics"),
        ] {
            assert_eq!(routes(path, served()).first(), Some(&route), "{path}");
        }
        let long = format!("/v1/jobs/{}", "x".repeat(10_000));
        for path in ["/wp-admin", "/v1/nonsense", "/v1", "/v1/", long.as_str()] {
            assert_eq!(routes(path, served()), Vec::<&str>::new(), "{path}");
        }
    }
}
