package dev.stmd;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** The tag of a record class: {@code @Tag("blog.CreateUser") record CreateUser(..)}, made known by {@link Stm#register}. */
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.TYPE)
public @interface Tag {
  /** {@return the tag, without the '#'} */
  String value();
}
