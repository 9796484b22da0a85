//! The operations of SQS.

use std::fmt;

macro_rules! actions {
    ($($action:ident $(= $no_body:ident)?,)*) => {
        /// An operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "SQS's names, described in its reference")]
        pub enum Action {
            $($action,)*
        }

        impl Action {
            /// All of them, in alphabetical order.
            pub const ALL: &[Self] = &[$(Self::$action,)*];

            /// The name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$action => stringify!($action),)* }
            }

            /// The operation of this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($action) => Some(Self::$action),)*
                    _ => None,
                }
            }

            /// Whether an answer says anything beyond success.
            #[must_use]
            pub const fn has_result(self) -> bool {
                match self { $(Self::$action => true $(&& actions!(@$no_body))?,)* }
            }
        }
    };
    (@silent) => { false };
}

actions! {
    AddPermission = silent,
    CancelMessageMoveTask,
    ChangeMessageVisibility = silent,
    ChangeMessageVisibilityBatch,
    CreateQueue,
    DeleteMessage = silent,
    DeleteMessageBatch,
    DeleteQueue = silent,
    GetQueueAttributes,
    GetQueueUrl,
    ListDeadLetterSourceQueues,
    ListMessageMoveTasks,
    ListQueueTags,
    ListQueues,
    PurgeQueue = silent,
    ReceiveMessage,
    RemovePermission = silent,
    SendMessage,
    SendMessageBatch,
    SetQueueAttributes = silent,
    StartMessageMoveTask,
    TagQueue = silent,
    UntagQueue = silent,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_23_and_each_is_found_by_its_name() {
        assert_eq!(Action::ALL.len(), 23);
        for &action in Action::ALL {
            assert_eq!(Action::parse(action.name()), Some(action));
        }
        assert!(Action::ALL.is_sorted_by_key(|action| action.name()));
        assert_eq!(Action::parse("sendMessage"), None);
    }
}
