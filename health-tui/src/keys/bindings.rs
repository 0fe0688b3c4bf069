//! The list of key bindings.
//!
//! Dispatch, the footer, the help screen, `--print-config` and the table in `docs/dashboard.md` are all generated
//! from it.

use crate::keys::action::Action;

/// The part of the dashboard in which a binding applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// All panes. While text is being typed, only keys that do not type a character.
    Everywhere,
    /// The live table.
    Live,
    /// The view of one user.
    User,
    /// The form of the range statistics and its answer.
    Form,
    /// The filter of the live table while it is being typed.
    Filter,
}

impl Scope {
    pub(crate) const ALL: [Self; 5] = [Self::Everywhere, Self::Live, Self::User, Self::Form, Self::Filter];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Everywhere => "Everywhere",
            Self::Live => "Live table",
            Self::User => "One user",
            Self::Form => "Range stats",
            Self::Filter => "While filtering",
        }
    }
}

/// An action with its default keys and its descriptions.
pub(crate) struct Binding {
    pub(crate) action: Action,
    /// The name in the settings file.
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
    /// The default keys.
    pub(crate) keys: &'static [&'static str],
    /// A sentence without its full stop, for the help screen and the documentation. At 80 columns 48 of them are
    /// visible.
    pub(crate) help: &'static str,
    /// A word for the footer. `None` keeps the key out of it.
    pub(crate) hint: Option<&'static str>,
}

/// Writes each binding on one line: action, name, keys, help and, after `=>`, the hint.
macro_rules! bindings {
    (@hint) => { None };
    (@hint $hint:literal) => { Some($hint) };
    ($($scope:ident { $($action:ident $name:literal [$($key:literal),+] $help:literal $(=> $hint:literal)?;)+ })+) => {
        &[$($(Binding {
            action: Action::$action,
            name: $name,
            scope: Scope::$scope,
            keys: &[$($key),+],
            help: $help,
            hint: bindings!(@hint $($hint)?),
        },)+)+]
    };
}

/// All bindings with their default keys, in the order of the help screen.
pub(crate) const BINDINGS: &[Binding] = bindings! {
    Everywhere {
        Help             "help"             ["?", "f1"]                          "List the keys" => "help";
        Quit             "quit"             ["q", "ctrl-c"]                      "Quit" => "quit";
        QuitKeeping      "quit-keeping"     ["Q"]                                "Quit and leave the last frame on the screen";
        TabLive          "tab-live"         ["1"]                                "Go to the live table";
        TabStats         "tab-stats"        ["2"]                                "Go to the range stats";
        NextTab          "next-tab"         ["ctrl-t"]                           "Go to the other tab";
        RetryNow         "retry-now"        ["ctrl-r"]                           "Connect again now";
        Mask             "mask"             ["p"]                                "Hide names and ids, for a shared screen";
        NextTheme        "next-theme"       ["T"]                                "Switch to the next theme";
        ToggleMouse      "toggle-mouse"     ["M"]                                "Switch the mouse off (to select text) or on";
        ExportCsv        "export-csv"       ["e", "ctrl-e"]                      "Save the visible data as CSV";
        ExportJson       "export-json"      ["E", "ctrl-o"]                      "Save the visible data as JSON";
        Copy             "copy"             ["y", "ctrl-y"]                      "Copy the visible data to the clipboard (OSC 52)";
        Suspend          "suspend"          ["ctrl-z"]                           "Suspend; `fg` in the shell resumes";
        Redraw           "redraw"           ["ctrl-l"]                           "Redraw the screen";
    }
    Live {
        Up               "up"               ["up", "k"]                          "Move one row up";
        Down             "down"             ["down", "j"]                        "Move one row down";
        PageUp           "page-up"          ["pageup", "ctrl-u"]                 "Move one page up";
        PageDown         "page-down"        ["pagedown", "ctrl-d"]               "Move one page down";
        First            "first"            ["home", "g"]                        "Go to the first row";
        Last             "last"             ["end", "G"]                         "Go to the last row";
        Open             "open"             ["enter"]                            "Open the user under the cursor" => "open";
        Filter           "filter"           ["/"]                                "Filter: `ada`, `!phone`, `hr>150 steps<10`" => "filter";
        Back             "clear"            ["esc"]                              "Clear the filter";
        SortNext         "sort-next"        ["s", ">"]                           "Sort by the next column" => "sort";
        SortPrevious     "sort-previous"    ["S", "<"]                           "Sort by the previous column";
        Reverse          "reverse"          ["r"]                                "Reverse the order";
        Pin              "pin"              ["*", "."]                           "Pin the row to the top, or unpin it";
        Freeze           "freeze"           ["space"]                            "Freeze or resume; readings still arrive"   => "freeze";
        NextAlert        "next-alert"       ["n"]                                "Go to the next alert" => "alert";
        PreviousAlert    "previous-alert"   ["N"]                                "Go to the previous alert";
        Preview          "preview"          ["d"]                                "Show or hide the details pane" => "details";
        StatsOfUser      "stats-of-user"    ["t"]                                "Range stats of the user under the cursor" => "stats";
        RowScales        "row-scales"       ["c"]                                "One scale for all rows, or one for each row" => "scale";
    }
    User {
        CursorLeft       "cursor-left"      ["left", "h"]                        "Move the cursor to the left" => "cursor";
        CursorRight      "cursor-right"     ["right", "l"]                       "Move the cursor to the right";
        PanLeft          "pan-left"         ["[", "shift-left", "pageup"]        "Go back in time by half a window" => "earlier";
        PanRight         "pan-right"        ["]", "shift-right", "pagedown"]     "Go forward in time by half a window";
        ZoomIn           "zoom-in"          ["+", "="]                           "Zoom in" => "zoom";
        ZoomOut          "zoom-out"         ["-"]                                "Zoom out";
        GoLive           "go-live"          ["end"]                              "Go to the present and follow it" => "live";
        Up               "previous-user"    ["up", "k"]                          "Go to the user above";
        Down             "next-user"        ["down", "j"]                        "Go to the user below";
        StatsOfUser      "stats-of-window"  ["t"]                                "Range stats of this window" => "stats";
        Back             "back"             ["esc", "backspace"]                 "Go back to the table" => "table";
    }
    Form {
        FieldNext        "field-next"       ["tab", "down"]                      "Go to the next field" => "field";
        FieldPrevious    "field-previous"   ["backtab", "up"]                    "Go to the previous field";
        Open             "run"              ["enter", "f5"]                      "Ask the server" => "ask";
        ChoiceLeft       "choice-left"      ["left"]                             "Previous choice, or cursor left in a text";
        ChoiceRight      "choice-right"     ["right"]                            "Next choice, or cursor right in a text" => "choose";
        Back             "cancel"           ["esc"]                              "Cancel the query, leave the fields, or go back" => "cancel";
        PageUp           "answer-up"        ["pageup"]                           "Scroll the answer up";
        PageDown         "answer-down"      ["pagedown"]                         "Scroll the answer down";
        ClearField       "clear-field"      ["ctrl-u"]                           "Clear the field";
    }
    Filter {
        Open             "keep-filter"      ["enter"]                            "Keep the filter" => "keep";
        Back             "drop-filter"      ["esc"]                              "Discard the filter" => "discard";
        ClearField       "clear-filter"     ["ctrl-u"]                           "Clear the filter";
        Up               "filter-up"        ["up"]                               "Move one row up";
        Down             "filter-down"      ["down"]                             "Move one row down";
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_binding_has_its_own_name() {
        for (i, b) in BINDINGS.iter().enumerate() {
            assert!(BINDINGS[i + 1..].iter().all(|other| other.name != b.name));
        }
    }
}
