;; P13, P15. A tensor by a handle that there is not.
;;; process
(drop (call $run (i32.const 1032) (i32.const 11) (i32.const 2) (i32.const 16)))
(i32.store8 (i32.const 520) (i32.const 2)) (i32.store (i32.const 524) (i32.const 77))
(i32.const 320)
