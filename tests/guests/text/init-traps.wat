;; P7. Crashes in `init`.
;;; init
(unreachable)
