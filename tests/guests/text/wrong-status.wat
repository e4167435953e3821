;; P14. A refusal with a status that is none.
;;; handle
(call $failure (i32.const 200) (i32.const 16) (i32.const 4))
