;; P13. More dimensions than a tensor may have.
;;; process
(i32.store (i32.const 404) (i32.const 1)) (memory.copy (i32.const 408) (i32.const 400) (i32.const 28))
(call $run (i32.const 1032) (i32.const 11) (i32.const 9) (i32.const 4))
