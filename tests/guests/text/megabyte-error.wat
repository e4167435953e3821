;; P14. A refusal of a megabyte.
;;; handle
(drop (memory.grow (i32.const 17)))
(memory.fill (i32.const 131072) (i32.const 120) (i32.const 1048576))
(call $failure (i32.const 422) (i32.const 131072) (i32.const 1048576))
