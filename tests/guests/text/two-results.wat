;; P13. Two results for the one item.
;;; process
(drop (call $run (i32.const 1032) (i32.const 11) (i32.const 2) (i32.const 16)))
(memory.copy (i32.const 280) (i32.const 256) (i32.const 24))
(i32.store (i32.const 324) (i32.const 2))
(i32.const 320)
