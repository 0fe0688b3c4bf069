//! The one list of keys. Dispatch, footer, help and the README's table are all made from it.

use crate::keys::action::Action;

/// Where a binding holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// In every pane (while text is being typed: only keys that are no text).
    Everywhere,
    /// In the live table.
    Live,
    /// In the view of one user.
    User,
    /// In the range-stats form and its answer.
    Form,
    /// While the filter is being typed.
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

/// One row of the list.
pub(crate) struct Binding {
    pub(crate) action: Action,
    /// The name in the configuration file.
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
    /// The default keys.
    pub(crate) keys: &'static [&'static str],
    /// A sentence for help and README, without its full stop.
    pub(crate) help: &'static str,
    /// A word for the footer, where there is room for one.
    pub(crate) hint: Option<&'static str>,
}

/// A line a binding: action, name, keys, help, and the footer's word where there is one.
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

/// Every binding with its default keys, in the order help shows them.
pub(crate) const BINDINGS: &[Binding] = bindings! {
    Everywhere {
        Help             "help"             ["?", "f1"]                          "List the keys" => "help";
        Quit             "quit"             ["q", "ctrl-c"]                      "Quit" => "quit";
        QuitKeeping      "quit-keeping"     ["Q"]                                "Quit and leave the last frame on the screen";
        TabLive          "tab-live"         ["1"]                                "Go to the live table";
        TabStats         "tab-stats"        ["2"]                                "Go to the range stats";
        NextTab          "next-tab"         ["ctrl-t"]                           "Go to the other tab";
        RetryNow         "retry-now"        ["ctrl-r"]                           "Connect again now";
        Mask             "mask"             ["p"]                                "Mask who is who, for a shared screen";
        NextTheme        "next-theme"       ["T"]                                "Change the theme";
        ToggleMouse      "toggle-mouse"     ["M"]                                "Switch the mouse off (to select text) or on";
        ExportCsv        "export-csv"       ["e", "ctrl-e"]                      "Save what is seen as CSV";
        ExportJson       "export-json"      ["E", "ctrl-o"]                      "Save what is seen as JSON";
        Copy             "copy"             ["y", "ctrl-y"]                      "Copy what is seen to the clipboard (OSC 52)";
        Suspend          "suspend"          ["ctrl-z"]                           "Suspend; `fg` comes back";
        Redraw           "redraw"           ["ctrl-l"]                           "Draw the whole screen again";
    }
    Live {
        Up               "up"               ["up", "k"]                          "One row up";
        Down             "down"             ["down", "j"]                        "One row down";
        PageUp           "page-up"          ["pageup", "ctrl-u"]                 "One page up";
        PageDown         "page-down"        ["pagedown", "ctrl-d"]               "One page down";
        First            "first"            ["home", "g"]                        "To the first row";
        Last             "last"             ["end", "G"]                         "To the last row";
        Open             "open"             ["enter"]                            "Open the user under the cursor" => "open";
        Filter           "filter"           ["/"]                                "Filter while typing: `ada`, `!phone`, `hr>150 steps<10`" => "filter";
        Back             "clear"            ["esc"]                              "Clear the filter";
        SortNext         "sort-next"        ["s", ">"]                           "Sort by the next column" => "sort";
        SortPrevious     "sort-previous"    ["S", "<"]                           "Sort by the previous column";
        Reverse          "reverse"          ["r"]                                "Reverse the order";
        Pin              "pin"              ["*", "."]                           "Pin the row to the top, or let it go";
        Freeze           "freeze"           ["space"]                            "Freeze the picture; readings go on arriving" => "freeze";
        NextAlert        "next-alert"       ["n"]                                "To the next alert" => "alert";
        PreviousAlert    "previous-alert"   ["N"]                                "To the previous alert";
        Preview          "preview"          ["d"]                                "Show or hide the details pane" => "details";
        StatsOfUser      "stats-of-user"    ["t"]                                "Range stats of the user under the cursor" => "stats";
    }
    User {
        CursorLeft       "cursor-left"      ["left", "h"]                        "Move the read-out to the left" => "read";
        CursorRight      "cursor-right"     ["right", "l"]                       "Move the read-out to the right";
        PanLeft          "pan-left"         ["[", "shift-left", "pageup"]        "Go back in time by half a window" => "earlier";
        PanRight         "pan-right"        ["]", "shift-right", "pagedown"]     "Go forward in time by half a window";
        ZoomIn           "zoom-in"          ["+", "="]                           "Zoom in" => "zoom";
        ZoomOut          "zoom-out"         ["-"]                                "Zoom out";
        GoLive           "go-live"          ["end"]                              "Back to now, following it" => "live";
        Up               "previous-user"    ["up", "k"]                          "The user above";
        Down             "next-user"        ["down", "j"]                        "The user below";
        StatsOfUser      "stats-of-window"  ["t"]                                "Range stats of this window" => "stats";
        Back             "back"             ["esc", "backspace"]                 "Back to the table" => "table";
    }
    Form {
        FieldNext        "field-next"       ["tab", "down"]                      "The next field" => "field";
        FieldPrevious    "field-previous"   ["backtab", "up"]                    "The previous field";
        ChoiceLeft       "choice-left"      ["left"]                             "The choice before (range, bucket), or the cursor in the text";
        ChoiceRight      "choice-right"     ["right"]                            "The choice after, or the cursor in the text" => "choose";
        Open             "run"              ["enter", "f5"]                      "Ask the server" => "ask";
        Back             "cancel"           ["esc"]                              "Cancel what runs; leave the fields; back to the table" => "cancel";
        PageUp           "answer-up"        ["pageup"]                           "Scroll the answer up";
        PageDown         "answer-down"      ["pagedown"]                         "Scroll the answer down";
        ClearField       "clear-field"      ["ctrl-u"]                           "Empty the field";
    }
    Filter {
        Open             "keep-filter"      ["enter"]                            "Keep the filter" => "keep";
        Back             "drop-filter"      ["esc"]                              "Drop the filter" => "drop";
        ClearField       "clear-filter"     ["ctrl-u"]                           "Empty the filter";
        Up               "filter-up"        ["up"]                               "One row up";
        Down             "filter-down"      ["down"]                             "One row down";
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_actions_are_unique() {
        for (i, b) in BINDINGS.iter().enumerate() {
            assert!(BINDINGS[i + 1..].iter().all(|other| other.name != b.name));
        }
    }
}
