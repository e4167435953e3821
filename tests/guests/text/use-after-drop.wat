;; P15. Uses a handle that it has dropped.
;;; imports
(import "sluice:plugin/tensors@0.1.0" "[constructor]writer" (func $writer (param i32 i32 i32) (result i32)))
(import "sluice:plugin/tensors@0.1.0" "[method]writer.finish" (func $finish (param i32) (result i32)))
(import "sluice:plugin/tensors@0.1.0" "[resource-drop]writer" (func $drop (param i32)))
;;; locals
(local $writer i32)
;;; handle
(i32.store (i32.const 1024) (i32.const 1))
(local.set $writer (call $writer (i32.const 1) (i32.const 1024) (i32.const 1)))
(call $drop (local.get $writer))
(drop (call $finish (local.get $writer)))
(call $answer (i32.const 16) (i32.const 4))
