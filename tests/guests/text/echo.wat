;; A plugin that does right: it answers with what it is asked.
;;; handle
(call $answer (local.get $data) (local.get $len))
