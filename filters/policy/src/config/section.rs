//! Sections of a document that hold nothing but integers.

/// A section of integers, each with its bounds and its default.
macro_rules! section {
    ($(#[$attribute:meta])* pub struct $name:ident {
        $($(#[$of_field:meta])* $field:ident: $min:literal..=$max:literal, default $default:literal;)+
    }) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[cfg_attr(test, schemars(deny_unknown_fields, default))]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$of_field])* #[cfg_attr(test, schemars(range(min = $min, max = $max)))] pub $field: u32,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }

        impl $name {
            fn read(
                node: &$crate::config::reader::Node<'_>,
                out: &mut $crate::config::violation::Violations,
            ) -> Option<Self> {
                let section = node.object(&[$(stringify!($field)),+], out)?;
                $(let $field = section.maybe(stringify!($field), out, |node, out| node.integer($min..=$max, out));)+
                Some(Self { $($field: $field?.unwrap_or($default)),+ })
            }
        }
    };
}

pub(super) use section;
