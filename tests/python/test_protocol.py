"""CIM-XML as pywbem sees it, whatever classes are served: every way to the same object gives the
same object, and what cannot be is refused with the status that clients act on."""

import itertools

import pytest
import pywbem

# Enough objects of each class to find a difference, few enough to be quick.
SAMPLE = 5


def status(error):
    return error.value.status_code


@pytest.fixture(scope="module")
def classes(connection):
    """Every class by name, with its qualifiers and inherited members."""
    found = connection.EnumerateClasses(DeepInheritance=True, LocalOnly=False)
    assert found
    return {each.classname: each for each in found}


@pytest.fixture(scope="module")
def roots(connection):
    names = connection.EnumerateClassNames(DeepInheritance=False)
    assert names
    return names


@pytest.fixture(scope="module")
def sample(connection, classes):
    """Some paths of every concrete class that has instances, associations excluded."""
    found = []
    for name, declared in classes.items():
        if "Association" in declared.qualifiers or "Abstract" in declared.qualifiers:
            continue
        paths = [path for path in connection.EnumerateInstanceNames(name)
                 if path.classname == name]
        found += paths[:SAMPLE]
    assert found
    return found


def steady(instance):
    """What two readings a moment apart must agree on: times and loads go on in between."""
    moving = ("time", "load", "uptime", "percent", "usage", "heartbeat", "elapsed")
    return {name.lower(): (each.type, each.is_array, each.value)
            for name, each in instance.properties.items()
            if not any(word in name.lower() for word in moving)}


def test_classes_are_the_same_one_by_one(connection, classes):
    names = connection.EnumerateClassNames(DeepInheritance=True)
    assert sorted(names) == sorted(classes)
    for name in names:
        assert connection.GetClass(name, LocalOnly=False) == classes[name]
        assert classes[name].tomof()


def test_class_names_have_no_case(connection, classes):
    name = next(iter(classes))
    assert connection.GetClass(name.upper()).classname == name


def test_own_members_are_a_part_of_all(connection, classes):
    for name in classes:
        own = connection.GetClass(name, LocalOnly=True)
        assert set(own.properties) <= set(classes[name].properties)
        assert set(own.methods) <= set(classes[name].methods)


def test_qualifier_types_are_declared(connection, classes):
    declared = {each.name.lower(): each for each in connection.EnumerateQualifiers()}
    assert connection.GetQualifier("Association") == declared["association"]
    used = set()
    for each in classes.values():
        used |= {name.lower() for name in each.qualifiers}
        for member in itertools.chain(each.properties.values(), each.methods.values()):
            used |= {name.lower() for name in member.qualifiers}
    assert used <= set(declared)


def test_enumerated_instances_are_those_that_are_got(connection, sample):
    for path in sample:
        got = connection.GetInstance(path)
        assert got.classname.lower() == path.classname.lower()
        enumerated = [each for each in connection.EnumerateInstances(path.classname)
                      if each.path == path]
        assert len(enumerated) == 1, path
        assert steady(enumerated[0]) == steady(got)


def test_paths_carry_the_key_properties(connection, classes, sample):
    for path in sample:
        instance = connection.GetInstance(path)
        keys = [name for name, each in classes[path.classname].properties.items()
                if "Key" in each.qualifiers]
        assert sorted(name.lower() for name in keys) == \
            sorted(name.lower() for name in path.keybindings.keys())
        for name in keys:
            assert instance[name] == path.keybindings[name]


def test_property_lists(connection, sample):
    path = sample[0]
    everything = connection.GetInstance(path)
    one = list(everything.properties)[-1]
    assert list(connection.GetInstance(path, PropertyList=[one.upper()]).properties) == [one]
    assert len(connection.GetInstance(path, PropertyList=[]).properties) == 0
    assert len(connection.GetInstance(path, PropertyList=["NoSuchProperty"]).properties) == 0
    for each in connection.EnumerateInstances(path.classname, PropertyList=[]):
        assert len(each.properties) == 0 and len(each.path.keybindings) > 0


def test_class_origin_only_when_asked(connection, sample):
    asked = connection.GetInstance(sample[0], IncludeClassOrigin=True)
    assert all(each.class_origin for each in asked.properties.values())
    plain = connection.GetInstance(sample[0])
    assert not any(each.class_origin for each in plain.properties.values())


def test_portions_add_up_to_the_whole(connection, roots):
    for name in roots:
        whole = connection.EnumerateInstanceNames(name)
        portions = []
        answer = connection.OpenEnumerateInstancePaths(name, MaxObjectCount=3)
        while True:
            assert len(answer.paths) <= 3
            portions += answer.paths
            if answer.eos:
                break
            answer = connection.PullInstancePaths(answer.context, MaxObjectCount=3)
        assert [without_host(path) for path in portions] == [without_host(p) for p in whole]
        opened = connection.OpenEnumerateInstances(name, MaxObjectCount=10_000)
        assert opened.eos and len(opened.instances) == len(whole)


def without_host(path):
    path = path.copy()
    path.host = None
    return path


def test_open_with_no_objects_gives_the_session_alone(connection, sample):
    opened = connection.OpenEnumerateInstances(sample[0].classname, MaxObjectCount=0)
    assert not opened.eos and not opened.instances
    with pytest.raises(pywbem.CIMError) as error:
        connection.PullInstancePaths(opened.context, MaxObjectCount=1)
    assert status(error) == pywbem.CIM_ERR_INVALID_PARAMETER
    connection.CloseEnumeration(opened.context)
    with pytest.raises(pywbem.CIMError) as error:
        connection.PullInstancesWithPath(opened.context, MaxObjectCount=1)
    assert status(error) == pywbem.CIM_ERR_INVALID_ENUMERATION_CONTEXT


@pytest.mark.parametrize("options, wanted", [
    ({"ContinueOnError": True}, pywbem.CIM_ERR_CONTINUATION_ON_ERROR_NOT_SUPPORTED),
    ({"OperationTimeout": 4_000_000_000}, pywbem.CIM_ERR_INVALID_OPERATION_TIMEOUT),
    ({"FilterQueryLanguage": "DMTF:FQL", "FilterQuery": "a = 1"},
     pywbem.CIM_ERR_FILTERED_ENUMERATION_NOT_SUPPORTED),
])
def test_open_options_that_are_not_served(connection, sample, options, wanted):
    with pytest.raises(pywbem.CIMError) as error:
        connection.OpenEnumerateInstances(sample[0].classname, **options)
    assert status(error) == wanted


def test_all_ways_through_associations_lead_to_the_same_objects(connection, sample):
    followed = 0
    for path in sample:
        names = connection.AssociatorNames(path)
        followed += len(names)
        ways = {
            "Associators": [each.path for each in connection.Associators(path)],
            "open paths": connection.OpenAssociatorInstancePaths(
                path, MaxObjectCount=10_000).paths,
            "open": [each.path for each in connection.OpenAssociatorInstances(
                path, MaxObjectCount=10_000).instances],
        }
        for way, found in ways.items():
            assert sorted(map(str, found)) == sorted(map(str, names)), (way, path)
        links = connection.ReferenceNames(path)
        link_ways = {
            "References": [each.path for each in connection.References(path)],
            "open paths": connection.OpenReferenceInstancePaths(
                path, MaxObjectCount=10_000).paths,
            "open": [each.path for each in connection.OpenReferenceInstances(
                path, MaxObjectCount=10_000).instances],
        }
        for way, found in link_ways.items():
            assert sorted(map(str, found)) == sorted(map(str, links)), (way, path)
        for each in links[:SAMPLE]:
            link = connection.GetInstance(each)
            ends = [end.value for end in link.properties.values() if end.type == "reference"]
            assert len(ends) >= 2
            # Keys and properties spell one and the same path, and never with a host.
            for end in link.properties.values():
                if end.type == "reference" and end.name in each.keybindings:
                    assert end.value == each.keybindings[end.name]
                    assert end.value.host is None
    assert followed, "nothing is associated with anything"


def test_associations_of_classes(connection, classes):
    for name, declared in classes.items():
        if "Association" not in declared.qualifiers or "Abstract" in declared.qualifiers:
            continue
        ends = [each.reference_class for each in declared.properties.values()
                if each.type == "reference"]
        found = connection.References(ends[0])
        assert name.lower() in [path.classname.lower() for path, _ in found]
        paths = connection.ReferenceNames(ends[0])
        assert sorted(map(str, paths)) == sorted(str(path) for path, _ in found)
        return
    pytest.fail("there is no association")


def test_association_filters_must_be_classes(connection, sample):
    with pytest.raises(pywbem.CIMError) as error:
        connection.Associators(sample[0], AssocClass="No_Such_Class")
    assert status(error) == pywbem.CIM_ERR_INVALID_PARAMETER


def test_queries(connection, sample):
    for path in sample[:SAMPLE]:
        all_of_class = connection.ExecQuery("WQL", f"SELECT * FROM {path.classname}")
        assert path.keybindings in [each.path.keybindings for each in all_of_class]
        opened = connection.OpenQueryInstances(
            "WQL", f"SELECT * FROM {path.classname}", MaxObjectCount=10_000)
        assert opened.eos and len(opened.instances) == len(all_of_class)
    with pytest.raises(pywbem.CIMError) as error:
        connection.ExecQuery("WQL", "SELECT FROM WHERE")
    assert status(error) == pywbem.CIM_ERR_INVALID_QUERY
    with pytest.raises(pywbem.CIMError) as error:
        connection.ExecQuery("SQL", "SELECT 1")
    assert status(error) == pywbem.CIM_ERR_QUERY_LANGUAGE_NOT_SUPPORTED


def test_names_that_do_not_exist(connection, sample):
    for call, wanted in [
        (lambda: connection.EnumerateInstanceNames("CIM_Namespace", namespace="no/such"),
         pywbem.CIM_ERR_INVALID_NAMESPACE),
        (lambda: connection.CreateClass(pywbem.CIMClass("X"), namespace="no/such"),
         pywbem.CIM_ERR_INVALID_NAMESPACE),
        (lambda: connection.EnumerateInstances("No_Such_Class"), pywbem.CIM_ERR_INVALID_CLASS),
        (lambda: connection.GetQualifier("NoSuchQualifier"), pywbem.CIM_ERR_NOT_FOUND),
        (lambda: connection.GetInstance(pywbem.CIMInstanceName(
            sample[0].classname,
            {name: "no such" for name in sample[0].keybindings.keys()})),
         pywbem.CIM_ERR_NOT_FOUND),
        (lambda: connection.InvokeMethod("NoSuchMethod", sample[0]),
         pywbem.CIM_ERR_METHOD_NOT_FOUND),
    ]:
        with pytest.raises(pywbem.CIMError) as error:
            call()
        assert status(error) == wanted
        assert error.value.status_description


def test_writing_is_refused_with_advice(connection, sample):
    instance = connection.GetInstance(sample[0])
    for call in [
        lambda: connection.CreateInstance(pywbem.CIMInstance(sample[0].classname)),
        lambda: connection.ModifyInstance(instance),
        lambda: connection.DeleteInstance(sample[0]),
        lambda: connection.CreateClass(pywbem.CIMClass("X_Y")),
        lambda: connection.DeleteClass(sample[0].classname),
        lambda: connection.DeleteQualifier("Key"),
    ]:
        with pytest.raises(pywbem.CIMError) as error:
            call()
        assert status(error) == pywbem.CIM_ERR_NOT_SUPPORTED
        assert error.value.status_description


def test_wrong_password_and_unknown_account(service):
    for user, password in [("admin", "wrong"), ("nobody", "wrong"), ("", "")]:
        with pytest.raises(pywbem.AuthError):
            service.connect(user=user, password=password).EnumerateClassNames()


def test_https_says_the_same(service, connection):
    if "cimxml_tls" not in service.endpoints:
        pytest.skip("this service has no TLS listener")
    secure = pywbem.WBEMConnection(
        "https://" + service.endpoints["cimxml_tls"], connection.creds,
        default_namespace=connection.default_namespace, no_verification=True, timeout=30)
    assert secure.EnumerateClassNames() == connection.EnumerateClassNames()
