;; P2. A component that is no plugin: it exports nothing.
;;; component
(component (core module))
