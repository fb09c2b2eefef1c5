//! What the days show and check: a program for each, which runs in the order of its chapter.

pub mod day00;
pub mod day01;
pub mod day02;
pub mod day03;
pub mod day04;
pub mod day05;
pub mod day06;
pub mod day07;
pub mod day08;
pub mod day09;
pub mod day10;
pub mod day11;
pub mod day12;
pub mod day13;
pub mod day14;
mod drawings;
mod encoder_decoder;
mod fitting;
mod new_tokens;
mod sentencepiece;
mod unused;
mod vocabularies;
