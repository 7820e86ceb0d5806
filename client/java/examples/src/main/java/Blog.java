import dev.stmd.Ref;
import dev.stmd.Stm;
import dev.stmd.Tag;
import java.time.Instant;
import java.util.List;

/** (b) A database of tagged records, and its replay. */
public final class Blog {
  sealed interface Event { List<CreateUser> update(List<CreateUser> users); }
  @Tag("blog.CreateUser") record CreateUser(String name, String email, Instant startDate) implements Event {
    public List<CreateUser> update(List<CreateUser> users) { return Stm.conj(users, this); } }
  @Tag("blog.DeleteUser") record DeleteUser(String email, Instant removeDate) implements Event {
    public List<CreateUser> update(List<CreateUser> users) { return users.stream().filter(u -> !u.email().equals(email)).toList(); } }
  static { Stm.register(CreateUser.class, DeleteUser.class); }   // logs #blog.CreateUser{:name "Bob", ...

  final Stm client = Stm.connect();
  final Ref<List<CreateUser>> users = client.ref("/blog/users", List.of());
  void record(Event e) { client.transact(tx -> { tx.alter(users, e::update); tx.record(e); }); }  // durable on return
  List<CreateUser> rebuild() {                         // after a restart users.get() is there; or replay:
    List<CreateUser> rebuilt = List.of();
    for (var r : client.<Event>records(CreateUser.class, DeleteUser.class)) rebuilt = r.value().update(rebuilt);
    return rebuilt;
  }

  public static void main(String[] arguments) {
    Blog blog = new Blog();
    try (Stm client = blog.client) {
      blog.record(new CreateUser("Bob", "bob@example.com", Instant.now()));
      blog.record(new CreateUser("Eve", "eve@example.com", Instant.now()));
      blog.record(new DeleteUser("bob@example.com", Instant.now()));
      System.out.println(blog.rebuild().equals(blog.users.get()) + " " + blog.users.get().get(0).name());
    }
  }
}
