;; P13. Dimensions whose product overflows.
;;; process
(memory.fill (i32.const 400) (i32.const 255) (i32.const 32))
(call $run (i32.const 1032) (i32.const 11) (i32.const 8) (i32.const 16))
