//! A day's program as it runs: its figures between the text of its chapter, its claims checked.

use std::vec::IntoIter;

use anyhow::{Result, bail};

use super::Lesson;
use super::chapter::{Section, sections};
use super::claims::{Check, CheckResult, losses_in_bands};
use super::screen::Screen;
use super::workbook::without_bodies;
use super::workspace::Workspace;

/// What a day's program is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The chapter, with its figures.
    Chapter,
    /// The same, its code without what the learner is to write.
    Exercises,
    /// The figures and the claims, without the chapter's text.
    Figures,
    /// The claims alone.
    Claims,
}

/// Receives what a day's program makes, in the order of its chapter.
pub struct Page<'a> {
    lesson: &'a Lesson,
    workspace: &'a Workspace,
    view: View,
    screen: Screen,
    /// The sections that were not shown yet.
    rest: IntoIter<Section<'a>>,
    checks: Vec<Check>,
}

impl View {
    /// Whether it shows the chapter's text.
    fn has_text(self) -> bool {
        matches!(self, Self::Chapter | Self::Exercises)
    }
}

impl<'a> Page<'a> {
    /// Runs a day's program, and returns the claims that were checked.
    ///
    /// # Errors
    /// A missing checkpoint of an earlier day, or a figure that cannot be computed or written.
    pub fn run(lesson: &'a Lesson, workspace: &'a Workspace, view: View) -> Result<Vec<Check>> {
        for folder in lesson.needs {
            workspace.checkpoint(folder)?;
        }
        let mut page = Self {
            lesson,
            workspace,
            view,
            screen: Screen::of_terminal(),
            rest: sections(lesson.chapter).into_iter(),
            checks: Vec::new(),
        };
        (lesson.program)(&mut page, workspace)?;
        if view.has_text() {
            page.next_figure(None)?;
        } else {
            page.checks.extend(losses_in_bands(lesson, workspace)?);
        }
        Ok(page.checks)
    }

    /// Shows the chapter as far as its next figure, which has this name, and the figure: text if the name ends in `.txt`, a
    /// picture if it ends in `.svg`. Saves it for the book.
    ///
    /// # Errors
    /// The chapter has another figure there; those of `render`; a file that cannot be written.
    pub fn figure(&mut self, name: &str, render: impl FnOnce() -> Result<String>) -> Result<()> {
        if self.view == View::Claims {
            return Ok(());
        }
        let section = self.next_figure(Some(name))?;
        let figure = render()?;
        let path = self.workspace.save_figure(self.lesson.day, name, &figure)?;
        match section {
            Some(Section::Figure { before, after, .. }) => {
                let (before, after) = match self.view.has_text() {
                    true => (before, after),
                    false => {
                        self.screen.text(&format!("**{name}**"))?;
                        ("```text\n".into(), "```".into())
                    }
                };
                self.screen.text(&format!("{before}{}\n{after}", figure.trim_end()))
            }
            Some(Section::Picture { caption, .. }) => {
                self.screen.text(&format!("*Picture: {caption}: {}*", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Checks a claim of the chapter, unless only the chapter is shown. `hint` names the source to look at if it fails.
    ///
    /// # Errors
    /// Those of `verify`.
    pub fn claim(
        &mut self,
        statement: &str,
        hint: &'static str,
        verify: impl FnOnce() -> Result<CheckResult>,
    ) -> Result<()> {
        if !self.view.has_text() {
            self.checks.push(Check {
                statement: statement.to_owned(),
                result: verify()?,
                hint,
            });
        }
        Ok(())
    }

    /// Shows the chapter's text up to its next figure, and returns that, or none at the end.
    fn next_figure(&mut self, expected: Option<&str>) -> Result<Option<Section<'a>>> {
        for section in self.rest.by_ref() {
            let name = match &section {
                Section::Text(_) if !self.view.has_text() => continue,
                Section::Text(markdown) if self.view == View::Exercises => {
                    self.screen.text(&without_bodies(markdown)?)?;
                    continue;
                }
                Section::Text(markdown) => {
                    self.screen.text(markdown)?;
                    continue;
                }
                Section::Figure { name, .. } | Section::Picture { name, .. } => *name,
            };
            match expected {
                Some(expected) if expected == name => return Ok(Some(section)),
                _ => bail!(
                    "day {}: the chapter shows {name} where the program has {}",
                    self.lesson.day,
                    expected.unwrap_or("its end")
                ),
            }
        }
        match expected {
            Some(expected) => bail!(
                "day {}: the program has {expected}, which the chapter does not show there",
                self.lesson.day
            ),
            None => Ok(None),
        }
    }
}
