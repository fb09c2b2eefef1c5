//! The inside of a model: what the page shows is what the library computes.

use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::model::Gpt;
use mlx_rs::Array;
use serde_json::json;

use super::common::http::Server;
use super::common::{folder, largest_difference, succeed, train_tiny};
use super::{asked, refused, with_run};

#[test]
fn the_inside_of_a_model_is_the_librarys() {
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let text = "To be or not";
    let shown = asked(&server, "/api/inside", json!({"model": "runs/tiny", "text": text}));
    assert_eq!((&shown["layers"], &shown["heads"]), (&json!(2), &json!(2)));
    assert_eq!(shown["tokens"].as_array().unwrap().len(), 12);

    let path = mlx_gpt::checkpoint::runs::find_checkpoint(Some(&folder.path().join("runs/tiny"))).unwrap();
    let checkpoint = Checkpoint::load(&path).unwrap();
    let gpt = Gpt::new(&checkpoint.model, &checkpoint.parameters).unwrap();
    let ids = checkpoint.tokenizer.encode(text).unwrap();
    let ids = Array::from_slice(&ids, &[1, 12]);
    for (layer, weights) in gpt.attention_weights(&ids).unwrap().iter().enumerate() {
        let expected: Vec<f32> = weights.reshape(&[-1]).unwrap().to_vec_exact().unwrap();
        let shown = asked(&server, "/api/attention", json!({"text": text, "layer": layer}));
        let heads = shown["heads"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|head| head.as_array().unwrap());
        let shown: Vec<f32> = heads
            .flat_map(|row| row.as_array().unwrap())
            .map(|weight| weight.as_f64().unwrap() as f32)
            .collect();
        assert!(largest_difference(&shown, &expected) <= 1e-4, "layer {layer}");
    }
    // After the last layer the lens says what the model says.
    let logits: Vec<f32> = gpt
        .forward(&ids, None)
        .unwrap()
        .reshape(&[-1])
        .unwrap()
        .to_vec_exact()
        .unwrap();
    let lens = shown["lens"].as_array().unwrap();
    assert_eq!(lens.len(), 3, "before the first layer, and after each");
    for (position, row) in logits.chunks(65).enumerate() {
        let best = (0..65).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        let total: f32 = row.iter().map(|logit| (logit - row[best]).exp()).sum();
        let said = &lens[2][position][0];
        assert!((said[1].as_f64().unwrap() as f32 - 1.0 / total).abs() < 1e-4, "{said}");
    }

    // A patch with the text itself changes nothing; one at the last position before the first layer makes it the other text's
    // last token.
    let patch = |source: &str, position: u32, source_position: u32| {
        let body = json!({"text": text, "source": source, "position": position, "source_position": source_position});
        asked(&server, "/api/patch", body)
    };
    let same = patch(text, 5, 5);
    for layer in same["layers"].as_array().unwrap() {
        let difference = layer["before"].as_f64().unwrap() - same["before"]["probability"].as_f64().unwrap();
        assert!(difference.abs() < 1e-5, "{same}");
    }
    let other = patch("To be or noq", 11, 11);
    let [first, expected] = [&other["layers"][0]["instead"], &other["instead"]["probability"]];
    assert!(
        (first.as_f64().unwrap() - expected.as_f64().unwrap()).abs() < 1e-5,
        "{other}"
    );

    for (path, body, part) in [
        ("/api/inside", json!({"text": ""}), "no tokens"),
        ("/api/inside", json!({"text": "日"}), "日"),
        ("/api/inside", json!({"text": "a".repeat(17)}), "at most 16"),
        ("/api/attention", json!({"text": "a", "layer": 2}), "layer is 2"),
        (
            "/api/patch",
            json!({"text": "a", "source": "b", "position": 1}),
            "outside",
        ),
    ] {
        assert!(refused(&server, path, body, 400).contains(part), "{part}");
    }
}

#[test]
fn neighbours_are_nearest_by_cosine() {
    let folder = with_run();
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let shown = asked(&server, "/api/vectors", json!({"model": "runs/tiny", "text": "abba"}));
    let path = mlx_gpt::checkpoint::runs::find_checkpoint(Some(&folder.path().join("runs/tiny"))).unwrap();
    let checkpoint = Checkpoint::load(&path).unwrap();
    let vectors = |name: &str| -> Vec<Vec<f64>> {
        let table = checkpoint.parameters.get(name).unwrap();
        let numbers: Vec<f32> = table.reshape(&[-1]).unwrap().to_vec_exact().unwrap();
        let rows = numbers.chunks(table.dim(1) as usize);
        rows.map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = |a: &[f64], b: &[f64]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let wte = vectors("wte.weight");
    let tokens = shown["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 2, "a and b, once each");
    for token in tokens {
        let id = token["id"].as_u64().unwrap() as usize;
        let mut expected: Vec<f64> = (0..wte.len())
            .filter(|&other| other != id)
            .map(|other| cosine(&wte[id], &wte[other]))
            .collect();
        expected.sort_by(|a, b| b.total_cmp(a));
        let found = token["neighbours"].as_array().unwrap();
        assert_eq!(found.len(), 6);
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found[1].as_f64().unwrap() - expected).abs() < 1e-5,
                "{found} {expected}"
            );
        }
    }
    assert!(
        shown["plane"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|point| point["own"] == true)
            .count()
            == 2
    );
    let wpe = vectors("wpe.weight");
    for (row, query) in shown["positions"].as_array().unwrap().iter().zip(&wpe) {
        for (found, key) in row.as_array().unwrap().iter().zip(&wpe) {
            assert!((found.as_f64().unwrap() - cosine(query, key)).abs() < 1e-5);
        }
    }
}

/// A bigram model has nothing to look into, but its tokens can be played with.
#[test]
fn a_model_without_blocks_says_so() {
    let folder = folder();
    let sizes = ["--layers", "1", "--heads", "1", "--embd", "1", "--dropout", "0"];
    let options = [&["--out", "runs/table", "--steps", "2", "--arch", "bigram"][..], &sizes].concat();
    succeed(&mut train_tiny(folder.path(), &options));
    let server = Server::start(folder.path(), "studio", &["--no-open"]);
    let error = refused(&server, "/api/inside", json!({"text": "a"}), 400);
    assert!(error.contains("bigram") && error.contains("without blocks"), "{error}");
    let answer = server.post_as_page("/api/generate", &json!({"prompt": "a", "max_tokens": 2}));
    assert_eq!(answer.events().len(), 3, "{answer:?}");
}
