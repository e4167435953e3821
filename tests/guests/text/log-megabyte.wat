;; P16. A line of a megabyte.
;;; imports
(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
;;; handle
(drop (memory.grow (i32.const 17)))
(memory.fill (i32.const 131072) (i32.const 120) (i32.const 1048576))
(call $log (i32.const 2) (i32.const 16) (i32.const 4) (i32.const 131072) (i32.const 1048576))
(call $answer (i32.const 16) (i32.const 4))
