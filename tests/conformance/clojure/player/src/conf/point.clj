(ns conf.point)

;; The user's type that every driver has. As conf.Point it is read where it is asked for.
(defrecord Point [^long x ^long y-axis])
