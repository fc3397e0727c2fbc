// What mxeval's tests use of the library CompareNETObjects: two values are equal if their types and contents are.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Linq;

namespace KellermanSoftware.CompareNetObjects
{
    public class ComparisonResult
    {
        public bool AreEqual { get; set; }
    }

    public class CompareLogic
    {
        public ComparisonResult Compare(object a, object b)
        {
            return new ComparisonResult { AreEqual = Same(a, b) };
        }

        static bool Same(object a, object b)
        {
            if (a == null || b == null) return a == null && b == null;
            if (a.GetType() != b.GetType()) return false;
            if (a is string || a.GetType().IsPrimitive || a is decimal) return a.Equals(b);
            var first = a as IDictionary;
            var second = b as IDictionary;
            if (first != null && second != null)
                return first.Count == second.Count
                    && first.Keys.Cast<object>().All(key => second.Contains(key) && Same(first[key], second[key]));
            var left = a as IEnumerable;
            var right = b as IEnumerable;
            if (left != null && right != null)
            {
                List<object> these = left.Cast<object>().ToList(), those = right.Cast<object>().ToList();
                return these.Count == those.Count && these.Zip(those, Same).All(same => same);
            }
            return a.GetType().GetProperties().All(one => Same(one.GetValue(a, null), one.GetValue(b, null)))
                && (a.GetType().GetProperties().Length > 0 || a.Equals(b));
        }
    }
}
