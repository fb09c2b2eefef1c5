//! Messages whose advice no row follows.

/// Words of a message, why no row brings it about, and the test that does, if one can.
pub struct Excused {
    pub words: &'static str,
    pub why: &'static str,
    pub test: &'static str,
}

const fn excused(words: &'static str, why: &'static str, test: &'static str) -> Excused {
    Excused { words, why, test }
}

const FAULTS: &str = "a_fault_at_any_call_of_any_command_loses_nothing";
const PAIRS: &str = "two_commands_at_once_share_a_folder";
const SET_UP: &str = "all_parts_are_made_once";
const RANKS: &str = "it takes several processes";
const GPU: &str = "it takes a GPU that is full";

pub const EXCUSED: &[Excused] = &[
    // The disk: faults are injected, and the advice is followed there.
    excused("make space", "a full disk", FAULTS),
    excused(
        "make its file system writable",
        "a disk that is mounted for reading",
        FAULTS,
    ),
    excused("the disk reports errors", "a disk that fails", FAULTS),
    excused("(or choose another --out)", "a full disk", FAULTS),
    excused(
        "restore what is missing",
        "a file that goes in the middle of a command",
        FAULTS,
    ),
    excused("{what}; {hint}", "it has one of these", FAULTS),
    excused("; {hint}", "it has one of these", FAULTS),
    excused("run this again then", "a full disk", FAULTS),
    excused(
        "could not be saved",
        "a full disk",
        "a_full_disk_is_a_warning_until_the_last_save",
    ),
    excused("fix that", "a fault for which there is no name", FAULTS),
    excused(
        "make it writable",
        "root may write anywhere",
        "a_run_that_cannot_be_written_says_what_helps",
    ),
    excused(
        "ulimit -f",
        "a limit that a shell cannot raise",
        "a_limit_on_the_size_of_files_is_an_error_like_any_other",
    ),
    excused("supports locks", "a file system without locks", ""),
    excused(
        "again after the run returned",
        "a rate that is raised in the middle of a run, which then diverges twice",
        "a_run_that_diverges_returns_once_also_if_it_is_killed_then",
    ),
    // Two commands at once.
    excused("another process is writing it", "a moment of two processes", PAIRS),
    excused(
        "under that name in the meantime",
        "a moment of two processes",
        "of_two_imports_into_one_place_one_says_so",
    ),
    excused(
        "is being prepared by another process",
        "a moment of two processes",
        "of_two_that_prepare_one_folder_one_says_so",
    ),
    excused(
        "is being written by another process",
        "a moment of two processes",
        PAIRS,
    ),
    excused(
        "run the same command again to continue",
        "a signal",
        "an_interrupted_preparation_leaves_whole_shards",
    ),
    // The machine.
    excused("make setup", "what is set up wrongly", SET_UP),
    excused("fix it with: {", "what is set up wrongly", SET_UP),
    excused(
        "unset OPENBLAS_CORETYPE",
        "OpenBLAS alone",
        "an_unknown_processor_is_noticed",
    ),
    excused(
        "export OPENBLAS_CORETYPE",
        "a processor that OpenBLAS does not know",
        "an_unknown_processor_is_noticed",
    ),
    excused(
        "{blas}: {rate}; {hint}",
        "a processor that OpenBLAS does not know",
        "an_unknown_processor_is_noticed",
    ),
    excused("MLX_ENABLE_TF32", "a GPU that rounds", ""),
    excused("this device computes wrong numbers", "a device that is broken", ""),
    excused("report it", "a device that is broken", ""),
    excused("; see above", "a second process that fails", ""),
    excused("the device has no memory left", GPU, ""),
    excused("close other programs, or start a new run", GPU, ""),
    excused(
        "take a model with a smaller context",
        "a model of many gigabytes",
        "what_a_limit_leaves_counts",
    ),
    excused(
        "evaluate shorter texts",
        "a context that no memory holds",
        "evaluation_in_windows_that_no_memory_can_hold_is_refused",
    ),
    excused("use a newer mlx-gpt", "there is no newer one yet", ""),
    excused(
        "was damaged in transit",
        "a server",
        "what_comes_damaged_is_not_imported_and_fetched_again",
    ),
    excused("by a fault of this program's", "a fault that is not known", ""),
    excused("set XDG_DATA_HOME to a folder", "a user without a home", ""),
    // What takes too long for a row.
    excused("is a folder; give the name of a file", "a minute or more", ""),
    excused("install Rust from https://rustup.rs", "Rust builds this test", ""),
    excused(
        "run this in a new clone of mlx-gpt",
        "the checkout of this test would be gone",
        "",
    ),
    excused("move lessons/day-07 away", "a minute or more", ""),
    excused("there are no weights in", "a minute or more", ""),
    excused("too few for pairs; train it for fewer steps", "a minute or more", ""),
    // What no command of this version writes.
    excused(
        "which are the same parameter",
        "another program's file",
        "a_wrong_model_is_refused_and_nothing_is_written",
    ),
    excused(
        "is not the configuration that",
        "a run of an earlier version",
        "a_configuration_that_is_not_the_runs_is_refused",
    ),
    // Several processes.
    excused(
        "there is no ssh here to start it with",
        RANKS,
        "an_address_that_cannot_be_used_is_named_in_a_line",
    ),
    excused(
        "start all with the same options",
        RANKS,
        "ranks_wait_for_a_late_one_and_say_what_differs",
    ),
    excused(
        "counted from 0; correct one of them",
        RANKS,
        "a_host_file_that_cannot_be_used_is_named",
    ),
    excused(
        "start the same program everywhere",
        RANKS,
        "a_rank_of_another_start_is_named_to_all",
    ),
    excused(
        "give all the same host file",
        RANKS,
        "a_rank_of_another_start_is_named_to_all",
    ),
    excused(
        "give each rank a number of its own",
        RANKS,
        "a_rank_of_another_start_is_named_to_all",
    ),
    excused(
        "choose another port in the host file",
        RANKS,
        "an_address_that_cannot_be_used_is_named_in_a_line",
    ),
    excused(
        "is no address of this machine; correct",
        RANKS,
        "an_address_that_cannot_be_used_is_named_in_a_line",
    ),
    excused(
        "of rank 0 leads nowhere; correct",
        RANKS,
        "an_address_that_is_taken_or_elsewhere_is_named",
    ),
    excused(
        "cannot be shared among {ranks} ranks",
        RANKS,
        "float16_and_muon_keep_all_ranks_the_same",
    ),
    excused(
        "is no multiple of sync-every",
        RANKS,
        "ranks_that_train_apart_resume_to_the_bit_and_with_another_number",
    ),
    excused(
        "give each rank the same text",
        RANKS,
        "ranks_wait_for_a_late_one_and_say_what_differs",
    ),
    excused(
        "ranks must have equally many of the",
        RANKS,
        "ranks_that_train_apart_resume_to_the_bit_and_with_another_number",
    ),
    excused("start it, or correct the host file", "a wait of minutes", ""),
    excused("One rank sends no messages", RANKS, ""),
    excused("are trained on one machine; start one process", RANKS, ""),
    excused(
        "and --hours are planned for one machine",
        RANKS,
        "what_one_machine_alone_does_is_refused_by_several",
    ),
    excused(
        "is for one machine; leave it out",
        RANKS,
        "what_one_machine_alone_does_is_refused_by_several",
    ),
    // Callers of the library.
    excused("give a run's folder or a checkpoint's", "the library alone", ""),
    excused("give at least one token", "the library alone", ""),
    excused("merge them before tokens are added", "the library alone", ""),
    excused("a quantized model cannot get new tokens", "the library alone", ""),
    excused("there is no token to continue from", "the library alone", ""),
    excused(
        "the prompt has no tokens",
        "a tokenizer that drops text",
        "errors_have_a_kind_and_say_what_to_do",
    ),
    excused(
        "targets of a step are ignored",
        "no command makes such a batch",
        "a_batch_without_a_target_is_an_error_of_one_line",
    ),
    excused(
        "makes problems and has no text",
        "commands ask first whether it is a task",
        "",
    ),
    excused(
        "has conversations and no text",
        "commands ask first whether it is conversations",
        "",
    ),
    excused("a prompt is empty or longer than", "problems of a task fit", ""),
    // What the server answers is tried in tests/serve.rs and tests/studio/: no command says it.
    excused(
        "cannot be listened on",
        "a port that another program has",
        "a_signal_ends_it_and_a_missing_model_is_said_before",
    ),
    excused(
        "use /v1/completions",
        "the server's",
        "what_is_wrong_is_named_in_openais_shape",
    ),
    excused(
        "completions are being generated already",
        "the server's",
        "a_client_that_goes_away_stops_its_generation",
    ),
    excused(
        "is not supported; leave it out",
        "the server's",
        "what_is_wrong_is_named_in_openais_shape",
    ),
    excused(
        "prompt is an empty list",
        "the server's",
        "what_is_wrong_is_named_in_openais_shape",
    ),
    excused(
        "bytes; take less of it",
        "the server's",
        "bodies_and_prompts_are_bounded",
    ),
    excused(
        "there is a run {} already",
        "the server's",
        "a_run_is_started_watched_stopped_and_resumed",
    ),
    excused(
        "the text has no tokens",
        "the server's",
        "the_inside_of_a_model_is_the_librarys",
    ),
    excused(
        "tokens; take at most",
        "the server's",
        "the_inside_of_a_model_is_the_librarys",
    ),
    excused(
        "without blocks to look into",
        "the server's",
        "a_model_without_blocks_says_so",
    ),
    excused("stop one first", "the server's, with five trainings", ""),
    excused("the tokenizer leaves nothing of it", "a tokenizer that drops text", ""),
    excused("the thread for models has ended", "an error of the program", ""),
    excused(
        "another training is being planned",
        "the server's, while it measures for another",
        "",
    ),
    excused(
        "a stand-in was learned",
        "a note of day 12 without its text, not an error",
        "",
    ),
    excused(
        "make it again with scripts/pretraining_text.py",
        "a text of megabytes that is fetched",
        "",
    ),
    excused(
        "there was no evaluation; train the day again",
        "the metrics of a day were removed",
        "",
    ),
];
