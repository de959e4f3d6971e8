//! WQL: parser and evaluator of the dialect that WMI clients use.
